//! `rnn`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::recurrent::{check_activations, check_direction, check_weights, outputs};
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// A recurrent network: hₜ = activation(W_ih xₜ + W_hh hₜ₋₁ + bias).
    ///
    /// `x` is \[s, b, I\]: s steps, b instances; `initial_h` is \[b, H\], `weight_ih` \[H, I\], `weight_hh` \[H, H\],
    /// `bias` (default: zeros) \[H\].
    ///
    /// The results are the state after every step, \[s, b, H\] (of the last step only, \[1, b, H\], unless
    /// `output_sequence`), and the state after the last step, \[b, H\].
    ///
    /// `direction` is `forward` or `reverse`; reversed, the steps are taken from the end, and the states are
    /// given in the order in which they are made.
    ///
    /// Activations are `linear`, `relu`, `sigmoid`, `hard_sigmoid` or `sigmoid_hard` (which is
    /// min(max(0.2 x + 0.5, 0), 1)), and `tanh` or `scaled_tanh` (whose scales are 1).
    ///
    /// From iOS17 on fp16 is allowed.
    Rnn,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[
                required("x", Kind::T),
                required("initial_h", Kind::T),
                required("weight_ih", Kind::T).constant(),
                required("weight_hh", Kind::T).constant(),
                optional("bias", Kind::T, Default::Absent).constant(),
                optional("direction", Kind::STRING, Default::Str("forward")).constant(),
                optional("output_sequence", Kind::BOOL, Default::Bool(false)).constant(),
                optional("activation", Kind::STRING, Default::Str("tanh")).constant(),
            ],
            types: &[("T", &[Fp32])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                required("initial_h", Kind::T),
                required("weight_ih", Kind::T).constant(),
                required("weight_hh", Kind::T).constant(),
                optional("bias", Kind::T, Default::Absent).constant(),
                optional("direction", Kind::STRING, Default::Str("forward")).constant(),
                optional("output_sequence", Kind::BOOL, Default::Bool(false)).constant(),
                optional("activation", Kind::STRING, Default::Str("tanh")).constant(),
            ],
            types: &[("T", &[Fp16, Fp32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    check_direction(op, &["forward", "reverse"])?;
    check_activations(op, &["activation"])?;
    let hidden = check_weights(op, 1, "weight_ih", "weight_hh", &[("bias", 1)])?;
    outputs(op, hidden, 1, &["initial_h"])
}
