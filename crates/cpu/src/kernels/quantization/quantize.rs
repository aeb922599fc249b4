//! `quantize`

unsupported!(Quantize, "there is no kernel yet");
