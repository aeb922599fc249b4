//! `asin`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Kind, Version, required};

op! {
    /// The angle in [-π/2, π/2] whose sine is `x`; NaN outside [-1, 1].
    ///
    /// The result has the type of `x`.
    Asin,
    &[Version { opset: Opset::Ios13, params: &[required("x", Kind::T)], types: &[("T", &[Fp16, Fp32])] }],
    same_as_x,
}
