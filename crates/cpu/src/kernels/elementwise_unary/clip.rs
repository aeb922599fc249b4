//! `clip`

unsupported!(Clip, "there is no kernel yet");
