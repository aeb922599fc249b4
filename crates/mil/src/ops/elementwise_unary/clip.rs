//! `clip`

use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as;
use crate::ops::{InferError, Inferred};

op! {
    /// `x`, but not less than `alpha` and not more than `beta`. NaN stays NaN, and a bound that is NaN makes everything NaN.
    ///
    /// The result has the type of `x`. From iOS17 on `alpha` must be less than `beta`.
    Clip since Ios13, Ios17 {
        x: Operand<T>,
        alpha: f32<T>,
        beta: f32<T>,
    }
    where T: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (alpha, beta) = (p.alpha, p.beta);
    if p.opset() >= Opset::Ios17 && (alpha >= beta || alpha.is_nan() || beta.is_nan()) {
        return Err(InferError(format!("`alpha` is {alpha}, which must be less than `beta`, {beta}")));
    }
    same_as(p.x)
}
