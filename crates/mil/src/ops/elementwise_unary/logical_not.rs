//! `logical_not`

use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Kind, Version, required};

op! {
    /// Whether `x` is false.
    ///
    /// The result has the type of `x`.
    LogicalNot,
    &[Version { opset: Opset::Ios13, params: &[required("x", Kind::BOOL)], types: &[] }],
    same_as_x,
}
