//! `ceil`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// The smallest integer that is not less than `x`.
    ///
    /// The result has the type of `x`.
    Ceil since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
