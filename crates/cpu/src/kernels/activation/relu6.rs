//! `relu6`

unsupported!(Relu6, "there is no kernel yet");
