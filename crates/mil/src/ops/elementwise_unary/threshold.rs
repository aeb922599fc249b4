//! `threshold`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// `x`, but not less than `alpha`.
    ///
    /// The result has the type of `x`.
    Threshold since Ios13 {
        x: Operand<T>,
        alpha: Const<T>,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| same_as(p.x)
}
