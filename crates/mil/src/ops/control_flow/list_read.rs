//! `list_read`

use crate::op;
use crate::ops::control_flow::{element, one_index};
use crate::ops::{InferError, Inferred};

op! {
    /// The element of a list at `index`.
    ListRead since Ios13 {
        ls: List,
        index: Operand<[Int32]>,
    }
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    one_index(p.index)?;
    Ok(vec![element(p.ls)?.clone().into()])
}
