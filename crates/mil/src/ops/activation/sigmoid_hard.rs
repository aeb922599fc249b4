//! `sigmoid_hard`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// min(max(alpha · x + beta, 0), 1).
    ///
    /// `alpha` and `beta` are scalars; from iOS17 on they may have another float type than `x`. The result
    /// has the type of `x`.
    SigmoidHard since Ios13, Ios17 {
        x: Operand<T>,
        alpha: f32<T until Ios17, U>,
        beta: f32<T until Ios17, U>,
    }
    where T: [Fp16, Fp32], U: since Ios17 [Fp16, Fp32]
    => |p| same_as(p.x)
}
