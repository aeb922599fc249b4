//! `threshold`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// `x`, but not less than `alpha`.
    ///
    /// The result has the type of `x`.
    Threshold,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T), required("alpha", Kind::T).constant()],
        types: &[("T", &[Fp16, Fp32, Int32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    op.float("alpha")?;
    same_as_x(op)
}
