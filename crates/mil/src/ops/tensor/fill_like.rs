//! `fill_like`

use crate::DType::{Bool, Fp16, Fp32, Int32};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Opset, TensorType};

op! {
    /// A tensor of the shape of `ref_tensor` with `value` in every element; 0.0 in fp32 if no value is given.
    FillLike,
    &[Version {
        opset: Opset::Ios16,
        params: &[
            required("ref_tensor", Kind::T),
            optional("value", Kind::Var("U"), Default::Float(0.0)).constant(),
        ],
        types: &[("T", &[Fp16, Fp32, Int32, Bool]), ("U", &[Fp16, Fp32, Int32, Bool])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let dtype = if op.has("value") { op.tensor("value")?.dtype } else { Fp32 };
    Ok(vec![TensorType::new(dtype, op.tensor("ref_tensor")?.shape.clone()).into()])
}
