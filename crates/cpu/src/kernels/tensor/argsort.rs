//! `argsort`

unsupported!(Argsort, "there is no kernel yet");
