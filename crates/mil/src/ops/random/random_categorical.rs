//! `random_categorical`

use crate::op;
use crate::ops::{Effect, InferError, Inferred};
use crate::{Dim, TensorType};

op! {
    /// `size` draws, with replacement, of an index along the last dimension of `x`, for each of the other
    /// dimensions.
    ///
    /// `x` holds log-probabilities up to a constant (`mode` is `logits`) or probabilities up to a factor
    /// (`probs`). The result has the shape of `x` but for the last dimension, which is `size`, and the
    /// element type of `x`. `seed` makes runs repeatable; -1, the default, does not.
    RandomCategorical since Ios13 {
        x: Operand<T>,
        mode: Str = "logits",
        size: i64 = 1,
        seed: i64 = -1,
    }
    where T: [Fp16, Fp32]
    => infer, Effect::Random
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let mut shape = x.shape.clone();
    let last = shape.last_mut().ok_or_else(|| InferError("input `x` is a scalar".into()))?;
    if *last == Dim::Fixed(0) {
        return Err(InferError("there is nothing to draw from".into()));
    }
    let size = usize::try_from(p.size).ok();
    *last = Dim::Fixed(size.ok_or_else(|| InferError("`size` is negative".into()))?);
    match p.mode {
        "logits" | "probs" => Ok(vec![TensorType::new(x.dtype, shape).into()]),
        mode => Err(InferError(format!("`mode` is \"{mode}\", not \"logits\" or \"probs\""))),
    }
}
