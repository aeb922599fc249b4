//! `rsqrt`

use crate::op;
use crate::ops::elementwise_unary::same_as;

op! {
    /// 1 / √(x + epsilon).
    ///
    /// The default of `epsilon` is rounded to the element type of `x`. From iOS17 on `epsilon` may have
    /// another float type than `x`.
    Rsqrt since Ios13, Ios17 {
        x: Operand<T>,
        epsilon: Number<T until Ios17, U> = 1e-12,
    }
    where T: [Fp16, Fp32], U: since Ios17 [Fp16, Fp32]
    => |p| same_as(p.x)
}
