//! `upsample_nearest_neighbor`

use super::sampling::scaled;
use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// Scales the last two dimensions of `x` by factors, repeating elements.
    ///
    /// The new sizes are rounded down. For n elements and m samples, sample i is element ⌊i · n / m⌋.
    UpsampleNearestNeighbor,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("x", Kind::T),
            optional("scale_factor_height", Kind::Var("U"), Default::Float(1.0)).constant(),
            optional("scale_factor_width", Kind::Var("U"), Default::Float(1.0)).constant(),
        ],
        types: &[("T", &[Fp16, Fp32]), ("U", &[Int32, Fp32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    Ok(vec![scaled(op)?.into()])
}
