//! `softmax`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// eˣ divided by the sum of eˣ along the dimension `axis`, computed without overflow.
    ///
    /// The result has the type of `x`.
    Softmax,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T), optional("axis", Kind::INT32, Default::Int(-1)).constant()],
        types: &[("T", &[Fp16, Fp32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    op.axis("axis", op.tensor("x")?.rank())?;
    same_as_x(op)
}
