//! `sqrt`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// The square root of `x`; NaN below zero.
    ///
    /// The result has the type of `x`.
    Sqrt since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
