//! `real_div`

use crate::op;
use crate::ops::elementwise_binary::broadcast;

op! {
    /// x / y. Integers are divided as reals, and the quotient loses its fraction; an integer divided by 0 is
    /// 0.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. The result has the element type of both.
    RealDiv since Ios13 {
        x: Operand<T>,
        y: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| broadcast(p.x, p.y)
}
