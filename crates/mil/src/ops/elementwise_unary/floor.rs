//! `floor`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// The largest integer that is not greater than `x`.
    ///
    /// The result has the type of `x`.
    Floor since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
