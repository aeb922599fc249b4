//! `square`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// x². Integers wrap.
    ///
    /// The result has the type of `x`.
    Square since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| same_as(p.x)
}
