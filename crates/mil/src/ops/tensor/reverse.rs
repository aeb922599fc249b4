//! `reverse`

use crate::DType::{Bool, Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::Opset;
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Param, Version, optional, required};

op! {
    /// Reverses the order of the elements along `axes`; along every dimension if none are given.
    Reverse,
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

const PARAMS: &[Param] = &[required("x", Kind::T), optional("axes", Kind::INT32, Default::Absent).constant()];

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    op.opt_axes("axes", x.rank())?;
    Ok(vec![x.clone().into()])
}
