//! `fill`

use crate::DType::{Bool, Fp16, Fp32, Int32};
use crate::op;
use crate::ops::{
    Default, InferError, Inferred, Kind, Known, MAX_PARTIAL, OpView, Version, dim, optional, required,
};
use crate::{Opset, TensorType, Type};

op! {
    /// A tensor of the given shape with `value` in every element; 0.0 in fp32 if no value is given.
    Fill,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("shape", Kind::INT32),
            optional("value", Kind::T, Default::Float(0.0)).constant(),
        ],
        types: &[("T", &[Fp16, Fp32, Int32, Bool])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let rank = op.tensor("shape")?.rank();
    require!(rank == 1, "input `shape` must be a vector, not of rank {rank}");
    let dtype = if op.has("value") { op.tensor("value")?.dtype } else { Fp32 };
    let shape = match (op.partial("shape"), op.outputs.first()) {
        (Some(sizes), _) => {
            require!(sizes.iter().flatten().all(|&n| n >= 0), "input `shape` has negative elements");
            sizes.into_iter().map(dim).collect()
        }
        // Without even the rank, what is declared is all there is.
        (None, Some(Type::Tensor(declared))) => declared.shape.clone(),
        _ => return Err(InferError("the length of input `shape` is not known".into())),
    };
    let ty = TensorType::new(dtype, shape);
    let count = ty.elements().filter(|&n| ty.rank() <= 1 && n <= MAX_PARTIAL);
    let known = match (op.partial("value").as_deref(), count) {
        (Some(&[value]), Some(n)) if dtype.is_int() => Some(Known::Partial(vec![value; n])),
        _ => None,
    };
    Ok(vec![Inferred { ty: ty.into(), known }])
}
