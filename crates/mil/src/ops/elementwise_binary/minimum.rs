//! `minimum`

use crate::op;
use crate::ops::elementwise_binary::arithmetic;

op! {
    /// The smaller of x and y; NaN if one is.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. The result has the element type of both.
    Minimum since Ios13 {
        x: Operand<T>,
        y: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| arithmetic(p.x, p.y, |x, y| Some(x.min(y)))
}
