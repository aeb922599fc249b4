//! `pad`

unsupported!(Pad, "there is no kernel yet");
