//! `threshold`

unsupported!(Threshold, "there is no kernel yet");
