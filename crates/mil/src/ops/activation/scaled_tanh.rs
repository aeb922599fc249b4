//! `scaled_tanh`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// alpha · tanh(beta · x).
    ///
    /// `alpha` and `beta` are scalars; from iOS17 on they may have another float type than `x`. The result
    /// has the type of `x`.
    ScaledTanh,
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
                required("alpha", Kind::Var("U")).constant(),
                required("beta", Kind::Var("U")).constant(),
            ],
            types: &[("T", &[Fp16, Fp32]), ("U", &[Fp16, Fp32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    op.float("alpha")?;
    op.float("beta")?;
    same_as_x(op)
}
