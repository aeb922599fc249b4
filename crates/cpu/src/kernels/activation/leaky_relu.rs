//! `leaky_relu`

unsupported!(LeakyRelu, "there is no kernel yet");
