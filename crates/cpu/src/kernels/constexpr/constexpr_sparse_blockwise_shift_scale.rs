//! `constexpr_sparse_blockwise_shift_scale`

unsupported!(ConstexprSparseBlockwiseShiftScale, "there is no kernel yet");
