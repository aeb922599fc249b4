//! `sigmoid`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// 1 / (1 + e⁻ˣ).
    ///
    /// The result has the type of `x`.
    Sigmoid since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
