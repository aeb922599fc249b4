//! `list_write`

use crate::op;
use crate::ops::control_flow::{element, one_index};
use crate::ops::{InferError, Inferred};

op! {
    /// The list `ls` with `value` as its element at `index`.
    ///
    /// A list of dynamic length grows as far as `index` asks for.
    ListWrite since Ios13 {
        ls: List,
        index: Operand<[Int32]>,
        value: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    one_index(p.index)?;
    let (element, value) = (element(p.ls)?, p.value);
    if !element.agrees(&value) {
        return Err(InferError(format!("input `value` is {value}, but the list holds {element}")));
    }
    Ok(vec![p.ls.ty.clone().into()])
}
