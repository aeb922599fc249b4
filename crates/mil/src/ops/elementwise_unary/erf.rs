//! `erf`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// The error function: 2/√π times the integral of exp(-t²) from 0 to `x`.
    ///
    /// The result has the type of `x`.
    Erf since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
