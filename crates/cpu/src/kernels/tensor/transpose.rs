//! `transpose`

unsupported!(Transpose, "there is no kernel yet");
