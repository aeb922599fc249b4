//! `add`

use crate::op;
use crate::ops::elementwise_binary::arithmetic;

op! {
    /// x + y. Integers wrap.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. The result has the element type of both.
    Add since Ios13 {
        x: Operand<T>,
        y: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| arithmetic(p.x, p.y, i64::checked_add)
}
