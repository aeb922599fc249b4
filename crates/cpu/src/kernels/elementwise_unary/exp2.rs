//! `exp2`

unsupported!(Exp2, "there is no kernel yet");
