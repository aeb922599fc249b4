//! `reshape`

unsupported!(Reshape, "there is no kernel yet");
