//! `abs`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// |x|. The smallest int32 is its own absolute value: integers wrap.
    ///
    /// The result has the type of `x`.
    Abs since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| same_as(p.x)
}
