//! `sinh`

unsupported!(Sinh, "there is no kernel yet");
