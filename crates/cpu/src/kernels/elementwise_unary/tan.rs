//! `tan`

unsupported!(Tan, "there is no kernel yet");
