//! `mod`

unsupported!(Mod, "there is no kernel yet");
