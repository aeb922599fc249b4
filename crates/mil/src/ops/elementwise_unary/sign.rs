//! `sign`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// -1, 0 or 1: the sign of `x`; NaN stays NaN.
    ///
    /// The result has the type of `x`.
    Sign since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| same_as(p.x)
}
