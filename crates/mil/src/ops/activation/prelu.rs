//! `prelu`

use crate::op;
use crate::ops::activation::channels;
use crate::ops::elementwise_unary::same_as;
use crate::ops::{InferError, Inferred};

op! {
    /// x where x > 0, alpha · x elsewhere, with an `alpha` for each channel.
    ///
    /// `x` is [batch, channels, …] of rank 3 or more; `alpha` is a vector of one element per channel. From
    /// iOS17 on `alpha` may have another float type than `x`. The result has the type of `x`.
    Prelu since Ios13, Ios17 {
        x: Operand<T>,
        alpha: Const<T until Ios17, U>,
    }
    where T: [Fp16, Fp32], U: since Ios17 [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    channels(&p.x, p.alpha, 3)?;
    same_as(p.x)
}
