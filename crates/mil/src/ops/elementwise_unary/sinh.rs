//! `sinh`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// The hyperbolic sine: (eˣ - e⁻ˣ) / 2.
    ///
    /// The result has the type of `x`.
    Sinh since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
