//! `range_1d`

unsupported!(Range1d, "there is no kernel yet");
