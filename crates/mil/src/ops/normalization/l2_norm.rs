//! `l2_norm`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// x / √(Σ x² + epsilon), where the sum is over the last three dimensions.
    ///
    /// `x` has rank 3 or more. `epsilon` may have another float type than `x`: coremltools writes its default in
    /// fp32. The result has the type of `x`.
    L2Norm,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[required("x", Kind::T), optional("epsilon", Kind::Var("E"), Default::Float(1e-6)).constant()],
            types: &[("T", &[Fp16, Fp32]), ("E", &[Fp16, Fp32])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                optional("epsilon", Kind::Var("E"), Default::Float(1e-6)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32]), ("E", &[Fp16, Fp32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let rank = op.tensor("x")?.rank();
    if rank < 3 {
        return Err(InferError(format!("input `x` has rank {rank}, at least 3 is needed")));
    }
    op.float("epsilon")?;
    same_as_x(op)
}
