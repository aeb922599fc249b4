//! `tanh`

unsupported!(Tanh, "there is no kernel yet");
