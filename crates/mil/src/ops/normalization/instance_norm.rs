//! `instance_norm`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::activation::channels;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// (x - mean) / √(variance + epsilon) · gamma + beta, with the statistics of each channel of each
    /// instance of the batch.
    ///
    /// `x` is [batch, channels, …] of rank 3 or more; `gamma` (default: ones) and `beta` (default: zeros) are
    /// vectors of one element per channel. From iOS17 on the parameters may have another float type than `x`;
    /// `epsilon` may in any opset: coremltools writes its default in fp32. The result has the type of `x`.
    InstanceNorm,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[
                required("x", Kind::T),
                optional("gamma", Kind::T, Default::Absent).constant(),
                optional("beta", Kind::T, Default::Absent).constant(),
                optional("epsilon", Kind::Var("E"), Default::Float(1e-5)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32]), ("E", &[Fp16, Fp32])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                optional("gamma", Kind::Var("U"), Default::Absent).constant(),
                optional("beta", Kind::Var("U"), Default::Absent).constant(),
                optional("epsilon", Kind::Var("E"), Default::Float(1e-5)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32]), ("U", &[Fp16, Fp32]), ("E", &[Fp16, Fp32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let rank = op.tensor("x")?.rank();
    if rank < 3 {
        return Err(InferError(format!("input `x` has rank {rank}, at least 3 is needed")));
    }
    for name in ["gamma", "beta"].into_iter().filter(|n| op.has(n)) {
        channels(op, name, 3)?;
    }
    op.float("epsilon")?;
    same_as_x(op)
}
