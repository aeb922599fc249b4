//! `prelu`

unsupported!(Prelu, "there is no kernel yet");
