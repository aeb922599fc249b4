//! `gelu`

unsupported!(Gelu, "there is no kernel yet");
