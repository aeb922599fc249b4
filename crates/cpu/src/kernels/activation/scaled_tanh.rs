//! `scaled_tanh`

unsupported!(ScaledTanh, "there is no kernel yet");
