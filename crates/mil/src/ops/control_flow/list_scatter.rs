//! `list_scatter`

use crate::TensorType;
use crate::op;
use crate::ops::control_flow::element;
use crate::ops::{InferError, Inferred};

op! {
    /// The list `ls` with the slices of `value` along its first dimension as its elements at `indices`, a
    /// vector.
    ///
    /// A list of dynamic length grows as far as the indices ask for.
    ListScatter since Ios13 {
        ls: List,
        indices: Operand<[Int32]>,
        value: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (element, indices, value) = (element(p.ls)?, p.indices, p.value);
    match (&indices.shape[..], &value.shape[..]) {
        ([count], [slices, slice @ ..]) if count.agrees(*slices) => {
            let slice = TensorType::new(value.dtype, slice);
            if !element.agrees(&slice) {
                return Err(InferError(format!("input `value` holds {slice}, but the list {element}")));
            }
            Ok(vec![p.ls.ty.clone().into()])
        }
        _ => Err(InferError(format!("cannot scatter {value} to the indices {indices}"))),
    }
}
