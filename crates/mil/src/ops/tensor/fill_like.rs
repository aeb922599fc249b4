//! `fill_like`

use crate::DType::Fp32;
use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// A tensor of the shape of `ref_tensor` with `value` in every element; 0.0 in fp32 if no value is given.
    FillLike since Ios16 {
        ref_tensor: Operand<T>,
        value: Option<Const<U>> = 0.0,
    }
    where T: [Fp16, Fp32, Int32, Bool], U: [Fp16, Fp32, Int32, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let dtype = p.value.map_or(Fp32, |v| v.dtype);
    Ok(vec![TensorType::new(dtype, p.ref_tensor.shape.clone()).into()])
}
