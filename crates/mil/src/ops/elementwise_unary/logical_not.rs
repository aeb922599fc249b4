//! `logical_not`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// Whether `x` is false.
    ///
    /// The result has the type of `x`.
    LogicalNot since Ios13 {
        x: Operand<[Bool]>,
    }
    => |p| same_as(p.x)
}
