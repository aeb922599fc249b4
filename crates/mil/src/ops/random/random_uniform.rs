//! `random_uniform`

use crate::op;
use crate::ops::Effect;
use crate::ops::random::tensor_of;

op! {
    /// A tensor of the given shape with elements that are uniform in [low, high).
    ///
    /// `seed` makes runs repeatable; -1, the default, does not. The result has the element type of the
    /// parameters, fp32 by default.
    RandomUniform since Ios13 {
        shape: Operand<[Int32]>,
        low: Number<T> = 0.0,
        high: Number<T> = 1.0,
        seed: i64 = -1,
    }
    where T: [Fp16, Fp32]
    => |p| tensor_of(p.shape, &[p.low, p.high]), Effect::Random
}
