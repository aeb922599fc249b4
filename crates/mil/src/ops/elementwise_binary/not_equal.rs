//! `not_equal`

use crate::op;
use crate::ops::elementwise_binary::compare;

op! {
    /// Whether x ≠ y. With NaN, only `not_equal` holds.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. The result is bool.
    NotEqual since Ios13 {
        x: Operand<T>,
        y: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| compare(p.x, p.y)
}
