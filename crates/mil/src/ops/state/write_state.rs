//! `write_state`

use crate::Type;
use crate::op;
use crate::ops::{Effect, InferError, Inferred};

op! {
    /// Makes a state hold `data`, a tensor of the type that the state was declared with. There is no result.
    ///
    /// Converters write `coreml_update_state` as this op and a [`read_state`](super::read_state).
    WriteState since Ios18 {
        input: State,
        data: Operand<T>,
    }
    where T: [Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16, Bool]
    => infer, Effect::State
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let data: &Type = &p.data.ty.clone().into();
    match p.input.ty {
        Type::State(held) if held.agrees(data) => Ok(Vec::new()),
        Type::State(held) => Err(InferError(format!("input `data` is {data}, but the state holds {held}"))),
        ty => Err(InferError(format!("input `input` is {ty}, a state is needed"))),
    }
}
