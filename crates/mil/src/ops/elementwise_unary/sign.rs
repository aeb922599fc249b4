//! `sign`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Kind, Version, required};

op! {
    /// -1, 0 or 1: the sign of `x`; NaN stays NaN.
    ///
    /// The result has the type of `x`.
    Sign,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Int32])],
    }],
    same_as_x,
}
