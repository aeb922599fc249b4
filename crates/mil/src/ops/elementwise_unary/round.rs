//! `round`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// The nearest integer; halves go to the even one.
    ///
    /// The result has the type of `x`.
    Round since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
