//! `instance_norm`

use crate::op;
use crate::ops::activation::channels;
use crate::ops::elementwise_unary::same_as;
use crate::ops::{InferError, Inferred};

op! {
    /// (x - mean) / √(variance + epsilon) · gamma + beta, with the statistics of each channel of each
    /// instance of the batch.
    ///
    /// `x` is [batch, channels, …] of rank 3 or more; `gamma` (default: ones) and `beta` (default: zeros) are
    /// vectors of one element per channel. From iOS17 on the parameters may have another float type than `x`;
    /// `epsilon` may in any opset: coremltools writes its default in fp32. The result has the type of `x`.
    InstanceNorm since Ios13, Ios17 {
        x: Operand<T>,
        gamma: Option<Const<T until Ios17, U>>,
        beta: Option<Const<T until Ios17, U>>,
        epsilon: f32<E> = 1e-5,
    }
    where T: [Fp16, Fp32], U: since Ios17 [Fp16, Fp32], E: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let rank = p.x.rank();
    if rank < 3 {
        return Err(InferError(format!("input `x` has rank {rank}, at least 3 is needed")));
    }
    for vector in [p.gamma, p.beta].into_iter().flatten() {
        channels(&p.x, vector, 3)?;
    }
    same_as(p.x)
}
