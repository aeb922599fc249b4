//! `dequantize`

use crate::TensorType;
use crate::op;
use crate::ops::quantization::check_scale;
use crate::ops::{InferError, Inferred};

op! {
    /// scale · (input - zero_point).
    ///
    /// `scale` and `zero_point` (default: 0) are both scalars, or both vectors with an element for each index
    /// of the dimension `axis` of `input`. The result has the element type of `scale`.
    Dequantize since Ios17 {
        input: Operand<SrcT>,
        zero_point: Option<Const<SrcT>>,
        scale: Const<DstT>,
        axis: Option<Axis>,
    }
    where SrcT: [Int8, UInt8], DstT: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    check_scale(p.input, p.scale, p.zero_point, p.axis)?;
    Ok(vec![TensorType::new(p.scale.dtype, p.input.shape.clone()).into()])
}
