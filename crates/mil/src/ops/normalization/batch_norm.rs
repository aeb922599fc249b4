//! `batch_norm`

use crate::op;
use crate::ops::activation::channels;
use crate::ops::elementwise_unary::same_as;
use crate::ops::{InferError, Inferred};

op! {
    /// (x - mean) / √(variance + epsilon) · gamma + beta, with statistics that were gathered in training, for
    /// each channel.
    ///
    /// `x` is [batch, channels, …]; `mean`, `variance`, `gamma` (default: ones) and `beta` (default: zeros)
    /// are vectors of one element per channel. From iOS17 on the parameters may have another float type than
    /// `x`; `epsilon` may in any opset: coremltools writes its default in fp32. The result has the type of `x`.
    BatchNorm since Ios13, Ios17 {
        x: Operand<T>,
        mean: Const<T until Ios17, U>,
        variance: Const<T until Ios17, U>,
        gamma: Option<Const<T until Ios17, U>>,
        beta: Option<Const<T until Ios17, U>>,
        epsilon: f32<E> = 1e-5,
    }
    where T: [Fp16, Fp32], U: since Ios17 [Fp16, Fp32], E: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    channels(&p.x, p.mean, 2)?;
    channels(&p.x, p.variance, 2)?;
    for vector in [p.gamma, p.beta].into_iter().flatten() {
        channels(&p.x, vector, 2)?;
    }
    same_as(p.x)
}
