//! `atanh`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// The inverse of the hyperbolic tangent: ½ ln((1 + x) / (1 - x)); NaN outside [-1, 1].
    ///
    /// The result has the type of `x`.
    Atanh since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
