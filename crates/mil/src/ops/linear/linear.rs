//! `linear`

use crate::DType::{Fp16, Fp32, Int32};
use crate::op;
use crate::ops::conv::check_bias;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Param, Version, optional, required};
use crate::{Opset, TensorType};

op! {
    /// `x · weightᵀ + bias`: `x` is … × D_in, `weight` is D_out × D_in, `bias` has D_out elements (zeros if absent).
    ///
    /// From iOS17 on `weight` and `bias` may have another type than `x`, whose type the result has.
    Linear,
    &[
        Version { opset: Opset::Ios13, params: &params(Kind::T), types: &[("T", &[Fp16, Fp32, Int32])] },
        Version {
            opset: Opset::Ios17,
            params: &params(Kind::Var("U")),
            types: &[("T", &[Fp16, Fp32, Int32]), ("U", &[Fp16, Fp32, Int32])],
        },
    ],
    infer,
}

const fn params(weight: Kind) -> [Param; 3] {
    [
        required("x", Kind::T),
        required("weight", weight).constant(),
        optional("bias", weight, Default::Absent).constant(),
    ]
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, weight) = (op.tensor("x")?, op.tensor("weight")?);
    let (Some(&inner), &[rows, columns]) = (x.shape.last(), &weight.shape[..]) else {
        return Err(InferError(format!("`x` is a {x} and `weight` a {weight}; `weight` must have rank 2")));
    };
    if !inner.agrees(columns) {
        return Err(InferError(format!("the last dimension of `x` is {inner}, that of `weight` {columns}")));
    }
    check_bias(op, rows)?;
    let mut shape = x.shape.clone();
    *shape.last_mut().expect("it has a last dimension") = rows;
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
