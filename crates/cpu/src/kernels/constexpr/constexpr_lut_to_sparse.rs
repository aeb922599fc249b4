//! `constexpr_lut_to_sparse`

unsupported!(ConstexprLutToSparse, "there is no kernel yet");
