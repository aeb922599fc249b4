//! `dequantize`

use crate::DType::{Fp16, Fp32, Int8, UInt8};
use crate::op;
use crate::ops::quantization::check_scale;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Opset, TensorType};

op! {
    /// scale · (input - zero_point).
    ///
    /// `scale` and `zero_point` (default: 0) are both scalars, or both vectors with an element for each index
    /// of the dimension `axis` of `input`. The result has the element type of `scale`.
    Dequantize,
    &[Version {
        opset: Opset::Ios17,
        params: &[
            required("input", Kind::Var("SrcT")),
            optional("zero_point", Kind::Var("SrcT"), Default::Absent).constant(),
            required("scale", Kind::Var("DstT")).constant(),
            optional("axis", Kind::INT32, Default::Absent).constant(),
        ],
        types: &[("SrcT", &[Int8, UInt8]), ("DstT", &[Fp16, Fp32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    check_scale(op)?;
    Ok(vec![TensorType::new(op.tensor("scale")?.dtype, op.tensor("input")?.shape.clone()).into()])
}
