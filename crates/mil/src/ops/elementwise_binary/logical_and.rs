//! `logical_and`

use crate::DType::Bool;
use crate::Opset;
use crate::op;
use crate::ops::elementwise_binary::compare;
use crate::ops::{Kind, Version, required};

op! {
    /// Whether both x and y are true.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. All are bool.
    LogicalAnd,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T), required("y", Kind::T)],
        types: &[("T", &[Bool])],
    }],
    compare,
}
