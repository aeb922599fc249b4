//! `elu`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// x where x > 0, alpha · (eˣ - 1) elsewhere.
    ///
    /// `alpha` is a scalar; from iOS17 on it may have another float type than `x`. The result has the type of
    /// `x`.
    Elu since Ios13, Ios17 {
        x: Operand<T>,
        alpha: f32<T until Ios17, U>,
    }
    where T: [Fp16, Fp32], U: since Ios17 [Fp16, Fp32]
    => |p| same_as(p.x)
}
