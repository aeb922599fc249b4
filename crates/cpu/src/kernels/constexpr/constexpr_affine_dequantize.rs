//! `constexpr_affine_dequantize`

unsupported!(ConstexprAffineDequantize, "there is no kernel yet");
