//! `sub`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_binary::arithmetic;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// x - y. Integers wrap.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. The result has the element type of both.
    Sub,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T), required("y", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Int32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    arithmetic(op, i64::checked_sub)
}
