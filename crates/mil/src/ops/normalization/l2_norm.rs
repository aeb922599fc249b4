//! `l2_norm`

use crate::op;
use crate::ops::elementwise_unary::same_as;
use crate::ops::{InferError, Inferred};

op! {
    /// x / √(Σ x² + epsilon), where the sum is over the last three dimensions.
    ///
    /// `x` has rank 3 or more. `epsilon` may have another float type than `x`: coremltools writes its default in
    /// fp32. The result has the type of `x`.
    L2Norm since Ios13, Ios17 {
        x: Operand<T>,
        epsilon: f32<E> = 1e-6,
    }
    where T: [Fp16, Fp32], E: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let rank = p.x.rank();
    if rank < 3 {
        return Err(InferError(format!("input `x` has rank {rank}, at least 3 is needed")));
    }
    same_as(p.x)
}
