//! `gru`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::recurrent::{check_activations, check_direction, check_weights, outputs};
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// A gated recurrent unit, with reset gate r, update gate z and candidate o:
    ///
    /// * r = f(W_ir x + W_hr h + b_r), z = f(W_iz x + W_hz h + b_z), where f is `recurrent_activation`
    /// * o = g(W_io x + W_ho (r · h) + b_o), where g is `activation`; with `reset_after`: o = g(W_io x + b_io
    ///   + r · (W_ho h + b_o))
    /// * the next state is (1 - z) · o + z · h
    ///
    /// `x` is \[s, b, I\]: s steps, b instances; `initial_h` is \[b, H\]; `weight_ih` is \[3H, I\], `weight_hh`
    /// \[3H, H\], `bias` and `input_bias` (default: zeros) are \[3H\], each in the order r, o, z.
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
    /// From iOS17 on fp16 is allowed; from iOS18 on there are `reset_after` and `input_bias`, which is added
    /// to W_i x.
    Gru,
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
                optional("recurrent_activation", Kind::STRING, Default::Str("sigmoid")).constant(),
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
                optional("recurrent_activation", Kind::STRING, Default::Str("sigmoid")).constant(),
                optional("activation", Kind::STRING, Default::Str("tanh")).constant(),
            ],
            types: &[("T", &[Fp16, Fp32])],
        },
        Version {
            opset: Opset::Ios18,
            params: &[
                required("x", Kind::T),
                required("initial_h", Kind::T),
                required("weight_ih", Kind::T).constant(),
                required("weight_hh", Kind::T).constant(),
                optional("bias", Kind::T, Default::Absent).constant(),
                optional("direction", Kind::STRING, Default::Str("forward")).constant(),
                optional("output_sequence", Kind::BOOL, Default::Bool(false)).constant(),
                optional("recurrent_activation", Kind::STRING, Default::Str("sigmoid")).constant(),
                optional("activation", Kind::STRING, Default::Str("tanh")).constant(),
                optional("reset_after", Kind::BOOL, Default::Bool(false)).constant(),
                optional("input_bias", Kind::T, Default::Absent).constant(),
            ],
            types: &[("T", &[Fp16, Fp32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    check_direction(op, &["forward", "reverse"])?;
    check_activations(op, &["recurrent_activation", "activation"])?;
    let hidden = check_weights(op, 3, "weight_ih", "weight_hh", &[("bias", 3), ("input_bias", 3)])?;
    outputs(op, hidden, 1, &["initial_h"])
}
