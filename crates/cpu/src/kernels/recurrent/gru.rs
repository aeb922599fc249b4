//! `gru`

unsupported!(Gru, "there is no kernel yet");
