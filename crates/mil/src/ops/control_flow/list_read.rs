//! `list_read`

use crate::Opset;
use crate::op;
use crate::ops::control_flow::{element, one_index};
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// The element of a list at `index`.
    ListRead,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("ls", Kind::List), required("index", Kind::INT32)],
        types: &[],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    one_index(op)?;
    Ok(vec![element(op)?.clone().into()])
}
