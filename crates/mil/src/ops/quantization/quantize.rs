//! `quantize`

use crate::DType::{Fp16, Fp32, Int8, UInt8};
use crate::op;
use crate::ops::quantization::check_scale;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Opset, TensorType};

op! {
    /// x / scale, rounded to nearest with halves to even, plus `zero_point`, clipped to what `output_dtype`
    /// can hold.
    ///
    /// `scale` and `zero_point` (default: 0) are both scalars, or both vectors with an element for each index
    /// of the dimension `axis` of `input`. `output_dtype`, `int8` or `uint8`, is also the type of
    /// `zero_point`.
    Quantize,
    &[Version {
        opset: Opset::Ios17,
        params: &[
            required("input", Kind::Var("SrcT")),
            optional("zero_point", Kind::Var("DstT"), Default::Absent).constant(),
            required("scale", Kind::Var("SrcT")).constant(),
            optional("axis", Kind::INT32, Default::Absent).constant(),
            required("output_dtype", Kind::STRING).constant(),
        ],
        types: &[("SrcT", &[Fp16, Fp32]), ("DstT", &[Int8, UInt8])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let dtype = match op.str("output_dtype")? {
        "int8" => Int8,
        "uint8" => UInt8,
        other => {
            return Err(InferError(format!("`output_dtype` is \"{other}\", not \"int8\" or \"uint8\"")));
        }
    };
    if op.has("zero_point") && op.tensor("zero_point")?.dtype != dtype {
        return Err(InferError(format!("input `zero_point` is {}, not {dtype}", op.tensor("zero_point")?)));
    }
    check_scale(op)?;
    Ok(vec![TensorType::new(dtype, op.tensor("input")?.shape.clone()).into()])
}
