//! `ceil`

unsupported!(Ceil, "there is no kernel yet");
