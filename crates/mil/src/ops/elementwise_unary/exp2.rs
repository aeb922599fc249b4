//! `exp2`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// 2ˣ. An integer power that is negative or does not fit is rounded toward zero, or saturates.
    ///
    /// The result has the type of `x`.
    Exp2 since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| same_as(p.x)
}
