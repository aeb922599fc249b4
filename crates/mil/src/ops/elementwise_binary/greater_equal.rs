//! `greater_equal`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_binary::compare;
use crate::ops::{Kind, Version, required};

op! {
    /// Whether x ≥ y. With NaN, only `not_equal` holds.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. The result is bool.
    GreaterEqual,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T), required("y", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Int32])],
    }],
    compare,
}
