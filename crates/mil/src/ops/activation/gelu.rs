//! `gelu`

use crate::op;
use crate::ops::elementwise_unary::same_as;
use crate::ops::{InferError, Inferred};

op! {
    /// x · Φ(x), where Φ is the cumulative distribution of the normal distribution, exactly or approximated:
    ///
    /// * `EXACT`: x/2 · (1 + erf(x/√2))
    /// * `TANH_APPROXIMATION`: x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))
    /// * `SIGMOID_APPROXIMATION`: x · sigmoid(1.702 x)
    ///
    /// The result has the type of `x`.
    Gelu since Ios13 {
        x: Operand<T>,
        mode: Str = "EXACT",
    }
    where T: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    match p.mode {
        "EXACT" | "TANH_APPROXIMATION" | "SIGMOID_APPROXIMATION" => same_as(p.x),
        mode => Err(InferError(format!("`mode` is \"{mode}\", which is no mode of gelu"))),
    }
}
