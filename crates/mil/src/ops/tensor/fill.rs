//! `fill`

use crate::DType::Fp32;
use crate::op;
use crate::ops::{InferError, Inferred, Known, MAX_PARTIAL, dim};
use crate::{TensorType, Type};

op! {
    /// A tensor of the given shape with `value` in every element; 0.0 in fp32 if no value is given.
    Fill since Ios13 {
        shape: Operand<[Int32]>,
        value: Option<Const<T>> = 0.0,
    }
    where T: [Fp16, Fp32, Int32, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let rank = p.shape.rank();
    require!(rank == 1, "input `shape` must be a vector, not of rank {rank}");
    let dtype = p.value.map_or(Fp32, |v| v.dtype);
    let shape = match (p.shape.partial(), p.view.outputs.first()) {
        (Some(sizes), _) => {
            require!(sizes.iter().flatten().all(|&n| n >= 0), "input `shape` has negative elements");
            sizes.into_iter().map(dim).collect()
        }
        // If not even the rank is known, only the declared shape can be used.
        (None, Some(Type::Tensor(declared))) => declared.shape.clone(),
        _ => return Err(InferError("the length of input `shape` is not known".into())),
    };
    let ty = TensorType::new(dtype, shape);
    let count = ty.elements().filter(|&n| ty.rank() <= 1 && n <= MAX_PARTIAL);
    let known = match (p.value.and_then(|v| v.partial()).as_deref(), count) {
        (Some(&[value]), Some(n)) if dtype.is_int() => Some(Known::Partial(vec![value; n])),
        _ => None,
    };
    Ok(vec![Inferred { ty: ty.into(), known }])
}
