//! `band_part`

use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Keeps a diagonal band of each innermost matrix of `x`, and makes the rest zero.
    ///
    /// The element in row m, column n is kept if m - n is at most `lower` and n - m is at most `upper`; a negative
    /// bound keeps that whole triangle.
    BandPart since Ios13 {
        x: Operand<T>,
        lower: i64 = -1,
        upper: i64 = -1,
    }
    where T: [Fp16, Fp32, Int32, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    require!(x.rank() >= 2, "input `x` must have at least rank 2, not {}", x.rank());
    Ok(vec![x.into()])
}
