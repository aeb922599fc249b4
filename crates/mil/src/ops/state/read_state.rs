//! `read_state`

use crate::Type;
use crate::op;
use crate::ops::{Effect, InferError, Inferred};

op! {
    /// The tensor that a state holds now.
    ReadState since Ios18 {
        input: State,
    }
    => infer, Effect::State
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    match p.input.ty {
        Type::State(held) => Ok(vec![(**held).clone().into()]),
        ty => Err(InferError(format!("input `input` is {ty}, a state is needed"))),
    }
}
