//! `resize`

unsupported!(Resize, "there is no kernel yet");
