//! `squeeze`

unsupported!(Squeeze, "there is no kernel yet");
