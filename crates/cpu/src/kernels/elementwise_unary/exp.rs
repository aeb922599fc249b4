//! `exp`

unsupported!(Exp, "there is no kernel yet");
