//! Compressed constants, which are expanded at compile time or at run time.

mod constexpr_affine_dequantize;
mod constexpr_blockwise_shift_scale;
mod constexpr_cast;
mod constexpr_lut_to_dense;
mod constexpr_lut_to_sparse;
mod constexpr_sparse_blockwise_shift_scale;
mod constexpr_sparse_to_dense;
mod expand;
