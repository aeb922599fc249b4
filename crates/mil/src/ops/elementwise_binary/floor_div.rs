//! `floor_div`

use crate::op;
use crate::ops::elementwise_binary::arithmetic;

op! {
    /// x / y, rounded toward negative infinity. An integer divided by 0 is 0.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. The result has the element type of both.
    FloorDiv since Ios13 {
        x: Operand<T>,
        y: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| arithmetic(p.x, p.y, floor_div)
}

fn floor_div(x: i64, y: i64) -> Option<i64> {
    let quotient = x.checked_div(y)?;
    Some(if x % y != 0 && (x < 0) != (y < 0) { quotient - 1 } else { quotient })
}
