//! `softplus_parametric`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::activation::channels;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// alpha · ln(1 + exp(beta · x)), with an `alpha` and a `beta` for each channel.
    ///
    /// `x` is [batch, channels, …] of rank 3 or more; `alpha` and `beta` are vectors of one element per
    /// channel. From iOS17 on they may have another float type than `x`. The result has the type of `x`.
    SoftplusParametric,
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
    channels(op, "alpha", 3)?;
    channels(op, "beta", 3)?;
    same_as_x(op)
}
