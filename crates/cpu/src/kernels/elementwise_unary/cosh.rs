//! `cosh`

unsupported!(Cosh, "there is no kernel yet");
