//! `silu`

unsupported!(Silu, "there is no kernel yet");
