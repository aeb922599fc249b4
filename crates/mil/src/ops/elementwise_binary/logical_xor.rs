//! `logical_xor`

use crate::op;
use crate::ops::elementwise_binary::compare;

op! {
    /// Whether just one of x and y is true.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. All are bool.
    LogicalXor since Ios13 {
        x: Operand<T>,
        y: Operand<T>,
    }
    where T: [Bool]
    => |p| compare(p.x, p.y)
}
