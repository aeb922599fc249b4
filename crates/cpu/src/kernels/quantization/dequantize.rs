//! `dequantize`

unsupported!(Dequantize, "there is no kernel yet");
