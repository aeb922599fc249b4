//! `asin`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// The angle in [-π/2, π/2] whose sine is `x`; NaN outside [-1, 1].
    ///
    /// The result has the type of `x`.
    Asin since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
