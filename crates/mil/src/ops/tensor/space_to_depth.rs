//! `space_to_depth`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// Moves spatial blocks of `x` into its channels, block offsets outermost; the inverse of `depth_to_space`.
    ///
    /// With b = `block_size`, `x` of shape [n, c, h · b, w · b] becomes [n, b · b · c, h, w]: offset (i, j) of the
    /// blocks of channel k goes to channel (i · b + j) · c + k.
    SpaceToDepth,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T), required("block_size", Kind::INT32).constant()],
        types: &[("T", &[Fp16, Fp32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    super::depth_to_space::space_to_channels(op, "block_size")
}
