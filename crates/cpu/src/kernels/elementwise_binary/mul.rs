//! `mul`

unsupported!(Mul, "there is no kernel yet");
