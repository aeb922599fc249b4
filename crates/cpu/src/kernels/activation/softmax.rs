//! `softmax`

unsupported!(Softmax, "there is no kernel yet");
