//! `random_bernoulli`

use crate::op;
use crate::ops::Effect;
use crate::ops::random::tensor_of;

op! {
    /// A tensor of the given shape whose elements are 1 with probability `prob`, 0 otherwise.
    ///
    /// `seed` makes runs repeatable; -1, the default, does not. The result has the element type of the
    /// parameters, fp32 by default.
    RandomBernoulli since Ios13 {
        shape: Operand<[Int32]>,
        prob: Number<T> = 0.5,
        seed: i64 = -1,
    }
    where T: [Fp16, Fp32]
    => |p| tensor_of(p.shape, &[p.prob]), Effect::Random
}
