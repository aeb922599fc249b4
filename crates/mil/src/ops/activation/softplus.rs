//! `softplus`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// ln(1 + eˣ), computed without overflow.
    ///
    /// The result has the type of `x`.
    Softplus since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
