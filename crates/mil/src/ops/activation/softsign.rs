//! `softsign`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// x / (1 + |x|).
    ///
    /// The result has the type of `x`.
    Softsign since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32]
    => |p| same_as(p.x)
}
