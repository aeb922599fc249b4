//! `pow`

use crate::op;
use crate::ops::elementwise_binary::broadcast;

op! {
    /// x to the power of y. Integers wrap; a negative power of an integer loses its fraction.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. The result has the element type of both.
    Pow since Ios13 {
        x: Operand<T>,
        y: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| broadcast(p.x, p.y)
}
