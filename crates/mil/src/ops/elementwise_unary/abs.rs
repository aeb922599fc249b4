//! `abs`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Kind, Version, required};

op! {
    /// |x|. The smallest int32 is its own absolute value: integers wrap.
    ///
    /// The result has the type of `x`.
    Abs,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Int32])],
    }],
    same_as_x,
}
