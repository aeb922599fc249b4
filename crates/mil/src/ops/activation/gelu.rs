//! `gelu`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_unary::same_as_x;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// x · Φ(x), where Φ is the cumulative distribution of the normal distribution, exactly or approximated:
    ///
    /// * `EXACT`: x/2 · (1 + erf(x/√2))
    /// * `TANH_APPROXIMATION`: x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))
    /// * `SIGMOID_APPROXIMATION`: x · sigmoid(1.702 x)
    ///
    /// The result has the type of `x`.
    Gelu,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T), optional("mode", Kind::STRING, Default::Str("EXACT")).constant()],
        types: &[("T", &[Fp16, Fp32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    match op.str("mode")? {
        "EXACT" | "TANH_APPROXIMATION" | "SIGMOID_APPROXIMATION" => same_as_x(op),
        mode => Err(InferError(format!("`mode` is \"{mode}\", which is no mode of gelu"))),
    }
}
