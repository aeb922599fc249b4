//! `conv_quantized`

use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Convolution with a weight of `nbits` bits, dequantized as `weight * quant_scale + quant_bias`.
    ///
    /// No converter writes it; quantized weights come as `constexpr_*` ops.
    ConvQuantized since Ios13 {
        x: Operand<T>,
        weight: Operand<U>,
        bias: Option<Const<U>>,
        quantization_type: Str,
        nbits: i64 = 8,
        quant_scale: Const<T>,
        quant_bias: Const<T>,
        strides: Option<Ints>,
        pad_type: Str = "valid",
        pad: Option<Ints>,
        dilations: Option<Ints>,
        groups: i64 = 1,
    }
    where T: [Fp16, Fp32], U: [UInt8]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    // Core ML does not document how weights below 8 bits are packed, so the declared type is not checked.
    p.view
        .outputs
        .first()
        .map(|t| vec![(*t).clone().into()])
        .ok_or_else(|| InferError("it has no output".into()))
}
