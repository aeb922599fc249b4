//! `atan`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// The angle in [-π/2, π/2] whose tangent is `x`.
    ///
    /// The result has the type of `x`.
    Atan since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
