//! `acos`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// The angle in [0, π] whose cosine is `x`; NaN outside [-1, 1].
    ///
    /// The result has the type of `x`.
    Acos since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
