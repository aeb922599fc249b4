//! `quantize`

use crate::DType::{Int8, UInt8};
use crate::TensorType;
use crate::op;
use crate::ops::quantization::check_scale;
use crate::ops::{InferError, Inferred};

op! {
    /// x / scale, rounded to nearest with halves to even, plus `zero_point`, clipped to what `output_dtype`
    /// can hold.
    ///
    /// `scale` and `zero_point` (default: 0) are both scalars, or both vectors with an element for each index
    /// of the dimension `axis` of `input`. `output_dtype`, `int8` or `uint8`, is also the type of
    /// `zero_point`.
    Quantize since Ios17 {
        input: Operand<SrcT>,
        zero_point: Option<Const<DstT>>,
        scale: Const<SrcT>,
        axis: Option<Axis>,
        output_dtype: Str,
    }
    where SrcT: [Fp16, Fp32], DstT: [Int8, UInt8]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let dtype = match p.output_dtype {
        "int8" => Int8,
        "uint8" => UInt8,
        other => {
            return Err(InferError(format!("`output_dtype` is \"{other}\", not \"int8\" or \"uint8\"")));
        }
    };
    if let Some(zero_point) = p.zero_point.filter(|z| z.dtype != dtype) {
        return Err(InferError(format!("input `zero_point` is {zero_point}, not {dtype}")));
    }
    check_scale(p.input, p.scale, p.zero_point, p.axis)?;
    Ok(vec![TensorType::new(dtype, p.input.shape.clone()).into()])
}
