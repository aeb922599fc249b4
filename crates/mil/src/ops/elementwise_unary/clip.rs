//! `clip`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// `x`, but not less than `alpha` and not more than `beta`. NaN stays NaN, and a bound that is NaN makes everything NaN.
    ///
    /// The result has the type of `x`. From iOS17 on `alpha` must be less than `beta`.
    Clip,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[
                required("x", Kind::T),
                required("alpha", Kind::T).constant(),
                required("beta", Kind::T).constant(),
            ],
            types: &[("T", &[Fp16, Fp32])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                required("alpha", Kind::T).constant(),
                required("beta", Kind::T).constant(),
            ],
            types: &[("T", &[Fp16, Fp32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (alpha, beta) = (op.float("alpha")?, op.float("beta")?);
    if op.version.opset >= Opset::Ios17 && (alpha >= beta || alpha.is_nan() || beta.is_nan()) {
        return Err(InferError(format!("`alpha` is {alpha}, which must be less than `beta`, {beta}")));
    }
    same_as_x(op)
}
