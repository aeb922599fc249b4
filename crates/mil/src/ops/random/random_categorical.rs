//! `random_categorical`

use crate::DType::{Fp16, Fp32};
use crate::op;
use crate::ops::{Default, Effect, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Dim, Opset, TensorType};

op! {
    /// `size` draws, with replacement, of an index along the last dimension of `x`, for each of the other
    /// dimensions.
    ///
    /// `x` holds log-probabilities up to a constant (`mode` is `logits`) or probabilities up to a factor
    /// (`probs`). The result has the shape of `x` but for the last dimension, which is `size`, and the
    /// element type of `x`. `seed` makes runs repeatable; -1, the default, does not.
    RandomCategorical,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("x", Kind::T),
            optional("mode", Kind::STRING, Default::Str("logits")).constant(),
            optional("size", Kind::INT32, Default::Int(1)).constant(),
            optional("seed", Kind::INT32, Default::Int(-1)).constant(),
        ],
        types: &[("T", &[Fp16, Fp32])],
    }],
    infer,
    Effect::Random,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    let mut shape = x.shape.clone();
    let last = shape.last_mut().ok_or_else(|| InferError("input `x` is a scalar".into()))?;
    if *last == Dim::Fixed(0) {
        return Err(InferError("there is nothing to draw from".into()));
    }
    let size = usize::try_from(op.int("size")?).ok();
    *last = Dim::Fixed(size.ok_or_else(|| InferError("`size` is negative".into()))?);
    match op.str("mode")? {
        "logits" | "probs" => Ok(vec![TensorType::new(x.dtype, shape).into()]),
        mode => Err(InferError(format!("`mode` is \"{mode}\", not \"logits\" or \"probs\""))),
    }
}
