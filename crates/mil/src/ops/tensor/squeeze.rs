//! `squeeze`

use crate::DType::{Bool, Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, Known, OpView, Param, Version, optional, required};
use crate::{Dim, Opset, TensorType};

op! {
    /// Drops the dimensions `axes` that have size 1; all of size 1 if no axes are given.
    ///
    /// Axes of another size stay.
    Squeeze,
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
    let axes = op.opt_axes("axes", x.rank())?;
    let drop = |i: usize| x.shape[i] == Dim::Fixed(1) && axes.as_ref().is_none_or(|a| a.contains(&i));
    let shape: Vec<Dim> = (0..x.rank()).filter(|&i| !drop(i)).map(|i| x.shape[i]).collect();
    let known = if x.rank() <= 1 { op.partial("x").map(Known::Partial) } else { None };
    Ok(vec![Inferred { ty: TensorType::new(x.dtype, shape).into(), known }])
}
