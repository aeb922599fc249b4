//! `cumsum`

unsupported!(Cumsum, "there is no kernel yet");
