//! `conv_quantized`

use crate::DType::{Fp16, Fp32, UInt8};
use crate::Opset;
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// Convolution with a weight of `nbits` bits, dequantized as `weight * quant_scale + quant_bias`.
    ///
    /// No converter writes it; quantized weights come as `constexpr_*` ops.
    ConvQuantized,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("x", Kind::T),
            required("weight", Kind::Var("U")),
            optional("bias", Kind::Var("U"), Default::Absent).constant(),
            required("quantization_type", Kind::STRING).constant(),
            optional("nbits", Kind::INT32, Default::Int(8)).constant(),
            required("quant_scale", Kind::T).constant(),
            required("quant_bias", Kind::T).constant(),
            optional("strides", Kind::INT32, Default::Absent).constant(),
            optional("pad_type", Kind::STRING, Default::Str("valid")).constant(),
            optional("pad", Kind::INT32, Default::Absent).constant(),
            optional("dilations", Kind::INT32, Default::Absent).constant(),
            optional("groups", Kind::INT32, Default::Int(1)).constant(),
        ],
        types: &[("T", &[Fp16, Fp32]), ("U", &[UInt8])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    // The packing of weights below 8 bits is not documented: the declared type is taken as it is.
    op.outputs.first().map(|t| vec![(*t).clone().into()]).ok_or_else(|| InferError("it has no output".into()))
}
