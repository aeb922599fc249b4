//! `silu`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// x · sigmoid(x), also called swish.
    ///
    /// The result has the type of `x`.
    Silu since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
