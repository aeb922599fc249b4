//! `exp2`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Kind, Version, required};

op! {
    /// 2ˣ. An integer power that is negative or does not fit is rounded toward zero, or saturates.
    ///
    /// The result has the type of `x`.
    Exp2,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Int32])],
    }],
    same_as_x,
}
