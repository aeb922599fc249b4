//! `relu`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// max(x, 0).
    ///
    /// The result has the type of `x`.
    Relu since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
