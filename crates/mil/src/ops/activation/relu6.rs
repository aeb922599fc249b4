//! `relu6`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Kind, Version, required};

op! {
    /// min(max(x, 0), 6).
    ///
    /// The result has the type of `x`.
    Relu6,
    &[Version { opset: Opset::Ios13, params: &[required("x", Kind::T)], types: &[("T", &[Fp16, Fp32])] }],
    same_as_x,
}
