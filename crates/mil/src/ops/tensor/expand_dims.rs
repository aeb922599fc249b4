//! `expand_dims`

use crate::DType::{Bool, Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::op;
use crate::ops::{InferError, Inferred, Kind, Known, OpView, Param, Version, required};
use crate::{Dim, Opset, TensorType};

op! {
    /// Inserts dimensions of size 1.
    ///
    /// `axes` are the places of the new dimensions in the result, from the end where negative.
    ExpandDims,
    &[
        Version {
            opset: Opset::Ios13,
            params: PARAMS,
            types: &[("T", &[Fp16, Fp32, Int32, Bool])],
        },
        Version {
            opset: Opset::Ios17,
            params: PARAMS,
            types: &[("T", &[Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16, Bool])],
        },
    ],
    infer,
}

const PARAMS: &[Param] = &[required("x", Kind::T), required("axes", Kind::INT32).constant()];

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    let rank = x.rank() + op.ints("axes")?.len();
    let mut axes = op.opt_axes("axes", rank)?.unwrap_or_default();
    axes.sort_unstable();
    let mut shape = x.shape.clone();
    for axis in axes {
        shape.insert(axis, Dim::Fixed(1));
    }
    let known = if rank <= 1 { op.partial("x").map(Known::Partial) } else { None };
    Ok(vec![Inferred { ty: TensorType::new(x.dtype, shape).into(), known }])
}
