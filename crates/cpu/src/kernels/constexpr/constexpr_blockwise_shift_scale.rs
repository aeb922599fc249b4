//! `constexpr_blockwise_shift_scale`

unsupported!(ConstexprBlockwiseShiftScale, "there is no kernel yet");
