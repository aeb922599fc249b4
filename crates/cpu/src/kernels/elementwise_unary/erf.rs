//! `erf`

unsupported!(Erf, "there is no kernel yet");
