//! `logical_or`

use crate::op;
use crate::ops::elementwise_binary::compare;

op! {
    /// Whether x or y is, or both are, true.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. All are bool.
    LogicalOr since Ios13 {
        x: Operand<T>,
        y: Operand<T>,
    }
    where T: [Bool]
    => |p| compare(p.x, p.y)
}
