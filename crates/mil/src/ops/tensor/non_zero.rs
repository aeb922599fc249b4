//! `non_zero`

use crate::DType::{Bool, Fp16, Fp32, Int32};
use crate::op;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};
use crate::{Dim, Opset, TensorType};

op! {
    /// The indices of the elements of `x` that are not zero: int32, a row for each, in row-major order.
    NonZero,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Int32, Bool])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let rank = op.tensor("x")?.rank();
    Ok(vec![TensorType::new(Int32, [Dim::Unknown, Dim::Fixed(rank)]).into()])
}
