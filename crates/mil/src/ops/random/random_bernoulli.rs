//! `random_bernoulli`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::random::tensor_of;
use crate::ops::{Default, Effect, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// A tensor of the given shape whose elements are 1 with probability `prob`, 0 otherwise.
    ///
    /// `seed` makes runs repeatable; -1, the default, does not. The result has the element type of the
    /// parameters, fp32 by default.
    RandomBernoulli,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("shape", Kind::INT32),
            optional("prob", Kind::T, Default::Float(0.5)).constant(),
            optional("seed", Kind::INT32, Default::Int(-1)).constant(),
        ],
        types: &[("T", &[Fp16, Fp32])],
    }],
    infer,
    Effect::Random,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    tensor_of(op, &["prob"])
}
