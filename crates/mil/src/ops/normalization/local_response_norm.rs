//! `local_response_norm`

use crate::op;
use crate::ops::elementwise_unary::same_as;
use crate::ops::{InferError, Inferred};

op! {
    /// x / (k + alpha / size · Σ x²)^beta, where the sum is over `size` neighboring channels, as far as there
    /// are so many.
    ///
    /// `x` is [batch, channels, …] of rank 3 or more. The neighborhood of channel c starts at c - ⌊size / 2⌋.
    /// From iOS17 on the parameters may have another float type than `x`. The result has the type of `x`.
    LocalResponseNorm since Ios13, Ios17 {
        x: Operand<T>,
        size: i64,
        alpha: f32<T until Ios17, U> = 0.0001,
        beta: f32<T until Ios17, U> = 0.75,
        k: f32<T until Ios17, U> = 1.0,
    }
    where T: [Fp16, Fp32], U: since Ios17 [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let rank = p.x.rank();
    if rank < 3 {
        return Err(InferError(format!("input `x` has rank {rank}, at least 3 is needed")));
    }
    let size = p.size;
    if size < 1 {
        return Err(InferError(format!("`size` is {size}, at least 1 is needed")));
    }
    same_as(p.x)
}
