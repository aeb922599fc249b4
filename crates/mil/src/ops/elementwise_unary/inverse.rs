//! `inverse`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// 1 / (x + epsilon).
    ///
    /// The default of `epsilon` is rounded to the element type of `x`. From iOS17 on `epsilon` may have
    /// another float type than `x`.
    Inverse,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[required("x", Kind::T), optional("epsilon", Kind::T, Default::Float(1e-4)).constant()],
            types: &[("T", &[Fp16, Fp32])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                optional("epsilon", Kind::Var("U"), Default::Float(1e-4)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32]), ("U", &[Fp16, Fp32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    op.float("epsilon")?;
    same_as_x(op)
}
