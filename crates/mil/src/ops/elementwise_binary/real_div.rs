//! `real_div`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_binary::broadcast;
use crate::ops::{Kind, Version, required};

op! {
    /// x / y. Integers are divided as reals, and the quotient loses its fraction; an integer divided by 0 is
    /// 0.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. The result has the element type of both.
    RealDiv,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T), required("y", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Int32])],
    }],
    broadcast,
}
