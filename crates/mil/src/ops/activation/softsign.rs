//! `softsign`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Kind, Version, required};

op! {
    /// x / (1 + |x|).
    ///
    /// The result has the type of `x`.
    Softsign,
    &[Version { opset: Opset::Ios13, params: &[required("x", Kind::T)], types: &[("T", &[Fp16, Fp32])] }],
    same_as_x,
}
