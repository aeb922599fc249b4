//! Compressed constants, which are expanded at compile time or at run time.

pub mod constexpr_affine_dequantize;
pub mod constexpr_blockwise_shift_scale;
pub mod constexpr_cast;
pub mod constexpr_lut_to_dense;
pub mod constexpr_lut_to_sparse;
pub mod constexpr_sparse_blockwise_shift_scale;
pub mod constexpr_sparse_to_dense;
