//! `non_zero`

unsupported!(NonZero, "there is no kernel yet");
