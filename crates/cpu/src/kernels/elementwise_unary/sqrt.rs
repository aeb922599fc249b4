//! `sqrt`

unsupported!(Sqrt, "there is no kernel yet");
