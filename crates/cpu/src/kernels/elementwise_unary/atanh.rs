//! `atanh`

unsupported!(Atanh, "there is no kernel yet");
