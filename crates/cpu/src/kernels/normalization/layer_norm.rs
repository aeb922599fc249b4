//! `layer_norm`

unsupported!(LayerNorm, "there is no kernel yet");
