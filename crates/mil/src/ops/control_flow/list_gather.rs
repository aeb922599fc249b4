//! `list_gather`

use crate::op;
use crate::ops::control_flow::element;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};
use crate::{Opset, TensorType};

op! {
    /// The elements of a list at `indices`, a vector, stacked along a new first dimension.
    ListGather,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("ls", Kind::List), required("indices", Kind::INT32)],
        types: &[],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (element, indices) = (element(op)?, op.tensor("indices")?);
    let [count] = indices.shape[..] else {
        return Err(InferError(format!("input `indices` is {indices}, a vector is needed")));
    };
    let shape: Vec<_> = [count].into_iter().chain(element.shape.iter().copied()).collect();
    Ok(vec![TensorType::new(element.dtype, shape).into()])
}
