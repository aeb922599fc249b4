//! `pow`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_binary::broadcast;
use crate::ops::{Kind, Version, required};

op! {
    /// x to the power of y. Integers wrap; a negative power of an integer loses its fraction.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. The result has the element type of both.
    Pow,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T), required("y", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Int32])],
    }],
    broadcast,
}
