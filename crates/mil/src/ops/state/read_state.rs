//! `read_state`

use crate::op;
use crate::ops::{Effect, InferError, Inferred, Kind, OpView, Version, required};
use crate::{Opset, Type};

op! {
    /// The tensor that a state holds now.
    ReadState,
    &[Version { opset: Opset::Ios18, params: &[required("input", Kind::State)], types: &[] }],
    infer,
    Effect::State,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    match op.ty("input")? {
        Type::State(held) => Ok(vec![(**held).clone().into()]),
        ty => Err(InferError(format!("input `input` is {ty}, a state is needed"))),
    }
}
