//! `floor`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Kind, Version, required};

op! {
    /// The largest integer that is not greater than `x`.
    ///
    /// The result has the type of `x`.
    Floor,
    &[Version { opset: Opset::Ios13, params: &[required("x", Kind::T)], types: &[("T", &[Fp16, Fp32])] }],
    same_as_x,
}
