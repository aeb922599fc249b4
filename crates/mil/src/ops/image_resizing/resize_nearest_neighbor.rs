//! `resize_nearest_neighbor`

use super::sampling::{resized, size};
use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// Resizes the last two dimensions of `x` to a given size, repeating or leaving out elements.
    ///
    /// For n elements and m samples, sample i is element ⌊i · n / m⌋.
    ResizeNearestNeighbor,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("x", Kind::T),
            required("target_size_height", Kind::INT32).constant(),
            required("target_size_width", Kind::INT32).constant(),
        ],
        types: &[("T", &[Fp16, Fp32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (height, width) = (size(op, "target_size_height")?, size(op, "target_size_width")?);
    Ok(vec![resized(op.tensor("x")?, height, width)?.into()])
}
