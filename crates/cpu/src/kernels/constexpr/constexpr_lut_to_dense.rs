//! `constexpr_lut_to_dense`

unsupported!(ConstexprLutToDense, "there is no kernel yet");
