//! `minimum`

unsupported!(Minimum, "there is no kernel yet");
