//! `add`

unsupported!(Add, "there is no kernel yet");
