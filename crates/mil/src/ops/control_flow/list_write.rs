//! `list_write`

use crate::DType::{Bool, Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::control_flow::{element, one_index};
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// The list `ls` with `value` as its element at `index`.
    ///
    /// A list of dynamic length grows as far as `index` asks for.
    ListWrite,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("ls", Kind::List), required("index", Kind::INT32), required("value", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Bool, Int32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    one_index(op)?;
    let (element, value) = (element(op)?, op.tensor("value")?);
    if !element.agrees(value) {
        return Err(InferError(format!("input `value` is {value}, but the list holds {element}")));
    }
    Ok(vec![op.ty("ls")?.clone().into()])
}
