//! `atan`

unsupported!(Atan, "there is no kernel yet");
