//! `elu`

unsupported!(Elu, "there is no kernel yet");
