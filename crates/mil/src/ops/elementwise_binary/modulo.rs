//! `mod`

use crate::op;
use crate::ops::elementwise_binary::arithmetic;

op! {
    /// The remainder of `floor_div`: x - y · ⌊x / y⌋, with the sign of `y`. An integer modulo 0 is 0.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. The result has the element type of both.
    Mod since Ios13 {
        x: Operand<T>,
        y: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| arithmetic(p.x, p.y, modulo)
}

fn modulo(x: i64, y: i64) -> Option<i64> {
    let rest = x.checked_rem(y)?;
    Some(if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest })
}
