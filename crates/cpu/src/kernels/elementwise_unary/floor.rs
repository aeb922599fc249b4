//! `floor`

unsupported!(Floor, "there is no kernel yet");
