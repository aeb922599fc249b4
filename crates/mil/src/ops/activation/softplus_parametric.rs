//! `softplus_parametric`

use crate::op;
use crate::ops::activation::channels;
use crate::ops::elementwise_unary::same_as;
use crate::ops::{InferError, Inferred};

op! {
    /// alpha · ln(1 + exp(beta · x)), with an `alpha` and a `beta` for each channel.
    ///
    /// `x` is [batch, channels, …] of rank 3 or more; `alpha` and `beta` are vectors of one element per
    /// channel. From iOS17 on they may have another float type than `x`. The result has the type of `x`.
    SoftplusParametric since Ios13, Ios17 {
        x: Operand<T>,
        alpha: Const<T until Ios17, U>,
        beta: Const<T until Ios17, U>,
    }
    where T: [Fp16, Fp32], U: since Ios17 [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    channels(&p.x, p.alpha, 3)?;
    channels(&p.x, p.beta, 3)?;
    same_as(p.x)
}
