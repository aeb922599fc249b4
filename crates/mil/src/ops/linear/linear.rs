//! `linear`

use crate::TensorType;
use crate::op;
use crate::ops::conv::check_bias;
use crate::ops::{InferError, Inferred};

op! {
    /// `x · weightᵀ + bias`: `x` is … × D_in, `weight` is D_out × D_in, `bias` has D_out elements (zeros if absent).
    ///
    /// From iOS17 on `weight` and `bias` may have another type than `x`, whose type the result has.
    Linear since Ios13, Ios17 {
        x: Operand<T>,
        weight: Const<T until Ios17, U>,
        bias: Option<Const<T until Ios17, U>>,
    }
    where T: [Fp16, Fp32, Int32], U: since Ios17 [Fp16, Fp32, Int32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, weight) = (p.x, p.weight);
    let (Some(&inner), &[rows, columns]) = (x.shape.last(), &weight.shape[..]) else {
        return Err(InferError(format!("`x` is a {x} and `weight` a {weight}; `weight` must have rank 2")));
    };
    if !inner.agrees(columns) {
        return Err(InferError(format!("the last dimension of `x` is {inner}, that of `weight` {columns}")));
    }
    check_bias(p.bias, rows)?;
    let mut shape = x.shape.clone();
    *shape.last_mut().expect("it has a last dimension") = rows;
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
