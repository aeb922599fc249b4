//! `elu`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// x where x > 0, alpha · (eˣ - 1) elsewhere.
    ///
    /// `alpha` is a scalar; from iOS17 on it may have another float type than `x`. The result has the type of
    /// `x`.
    Elu,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[required("x", Kind::T), required("alpha", Kind::T).constant()],
            types: &[("T", &[Fp16, Fp32])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[required("x", Kind::T), required("alpha", Kind::Var("U")).constant()],
            types: &[("T", &[Fp16, Fp32]), ("U", &[Fp16, Fp32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    op.float("alpha")?;
    same_as_x(op)
}
