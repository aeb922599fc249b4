//! `classify`

unsupported!(Classify, "there is no kernel yet");
