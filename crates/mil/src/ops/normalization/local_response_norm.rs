//! `local_response_norm`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// x / (k + alpha / size · Σ x²)^beta, where the sum is over `size` neighboring channels, as far as there
    /// are so many.
    ///
    /// `x` is [batch, channels, …] of rank 3 or more. The neighborhood of channel c starts at c - ⌊size / 2⌋.
    /// From iOS17 on the parameters may have another float type than `x`. The result has the type of `x`.
    LocalResponseNorm,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[
                required("x", Kind::T),
                required("size", Kind::INT32).constant(),
                optional("alpha", Kind::T, Default::Float(1e-4)).constant(),
                optional("beta", Kind::T, Default::Float(0.75)).constant(),
                optional("k", Kind::T, Default::Float(1.0)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                required("size", Kind::INT32).constant(),
                optional("alpha", Kind::Var("U"), Default::Float(1e-4)).constant(),
                optional("beta", Kind::Var("U"), Default::Float(0.75)).constant(),
                optional("k", Kind::Var("U"), Default::Float(1.0)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32]), ("U", &[Fp16, Fp32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let rank = op.tensor("x")?.rank();
    if rank < 3 {
        return Err(InferError(format!("input `x` has rank {rank}, at least 3 is needed")));
    }
    let size = op.int("size")?;
    if size < 1 {
        return Err(InferError(format!("`size` is {size}, at least 1 is needed")));
    }
    for name in ["alpha", "beta", "k"] {
        op.float(name)?;
    }
    same_as_x(op)
}
