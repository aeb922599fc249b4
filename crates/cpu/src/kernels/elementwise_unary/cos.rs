//! `cos`

unsupported!(Cos, "there is no kernel yet");
