//! `acos`

unsupported!(Acos, "there is no kernel yet");
