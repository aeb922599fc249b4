//! `abs`

unsupported!(Abs, "there is no kernel yet");
