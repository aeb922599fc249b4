//! `cos`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// The cosine of `x` radians.
    ///
    /// The result has the type of `x`.
    Cos since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
