//! `transpose`

use crate::DType::{Bool, Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::op;
use crate::ops::{InferError, Inferred, Kind, OpView, Param, Version, required};
use crate::{Opset, TensorType};

op! {
    /// Permutes the dimensions of `x`: dimension i of the result is dimension `perm[i]` of `x`.
    Transpose,
    &[
        Version { opset: Opset::Ios13, params: PARAMS, types: &[("T", &[Fp16, Fp32, Int32, Bool])] },
        Version {
            opset: Opset::Ios17,
            params: PARAMS,
            types: &[("T", &[Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16, Bool])],
        },
    ],
    infer,
}

const PARAMS: &[Param] = &[required("x", Kind::T), required("perm", Kind::INT32).constant()];

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    let perm = op.opt_axes("perm", x.rank())?.unwrap_or_default();
    require!(perm.len() == x.rank(), "input `perm` has {} elements, `x` has rank {}", perm.len(), x.rank());
    let shape: Vec<_> = perm.iter().map(|&i| x.shape[i]).collect();
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
