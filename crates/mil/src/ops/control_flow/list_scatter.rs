//! `list_scatter`

use crate::DType::{Bool, Fp16, Fp32, Int32};
use crate::op;
use crate::ops::control_flow::element;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};
use crate::{Opset, TensorType};

op! {
    /// The list `ls` with the slices of `value` along its first dimension as its elements at `indices`, a
    /// vector.
    ///
    /// A list of dynamic length grows as far as the indices ask for.
    ListScatter,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("ls", Kind::List), required("indices", Kind::INT32), required("value", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Bool, Int32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (element, indices, value) = (element(op)?, op.tensor("indices")?, op.tensor("value")?);
    match (&indices.shape[..], &value.shape[..]) {
        ([count], [slices, slice @ ..]) if count.agrees(*slices) => {
            let slice = TensorType::new(value.dtype, slice);
            if !element.agrees(&slice) {
                return Err(InferError(format!("input `value` holds {slice}, but the list {element}")));
            }
            Ok(vec![op.ty("ls")?.clone().into()])
        }
        _ => Err(InferError(format!("cannot scatter {value} to the indices {indices}"))),
    }
}
