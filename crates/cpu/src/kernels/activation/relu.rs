//! `relu`

unsupported!(Relu, "there is no kernel yet");
