//! `sub`

unsupported!(Sub, "there is no kernel yet");
