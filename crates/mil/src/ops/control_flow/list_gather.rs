//! `list_gather`

use crate::TensorType;
use crate::op;
use crate::ops::control_flow::element;
use crate::ops::{InferError, Inferred};

op! {
    /// The elements of a list at `indices`, a vector, stacked along a new first dimension.
    ListGather since Ios13 {
        ls: List,
        indices: Operand<[Int32]>,
    }
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (element, indices) = (element(p.ls)?, p.indices);
    let [count] = indices.shape[..] else {
        return Err(InferError(format!("input `indices` is {indices}, a vector is needed")));
    };
    let shape: Vec<_> = [count].into_iter().chain(element.shape.iter().copied()).collect();
    Ok(vec![TensorType::new(element.dtype, shape).into()])
}
