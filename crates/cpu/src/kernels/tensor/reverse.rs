//! `reverse`

unsupported!(Reverse, "there is no kernel yet");
