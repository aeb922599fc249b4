//! `lstm`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::recurrent::{check_activations, check_direction, check_weights, outputs};
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// Long short-term memory, with input gate i, forget gate f, output gate o, cell candidate z and cell c:
    ///
    /// * i, f, o = `recurrent_activation`(W_i x + W_h h + b + p · c), z = `cell_activation`(W_iz x + W_hz h +
    ///   b_z)
    /// * the next cell is f · c + i · z, clipped to \[-clip, clip\] if there is `clip` (NaN if that is NaN)
    /// * the next state is o · `activation`(c), with the next cell
    ///
    /// The peephole p is there only with `peephole`; for the gate o it looks at the next cell.
    ///
    /// `x` is \[s, b, I\]: s steps, b instances; `initial_h` and `initial_c` are \[b, D·H\], where D is 2 for the
    /// direction `bidirectional` and 1 otherwise; `weight_ih` is \[4H, I\], `weight_hh` \[4H, H\], `bias`
    /// (default: zeros) \[4H\], each in the order i, f, o, z; `peephole` is \[3H\], in the order i, f, o. The
    /// parameters that end in `_back` are those of the backward half of `bidirectional`.
    /// The initial states may have more rows than b; the first are used.
    ///
    /// The results are the states after every step, \[s, b, D·H\] (of the last step only, \[1, b, D·H\], unless
    /// `output_sequence`), the state after the last step, \[b, D·H\], and the cell after the last step, \[b,
    /// D·H\].
    ///
    /// `direction` is `forward`, `reverse` or `bidirectional`; reversed, the steps are taken from the end,
    /// and the states are given in the order in which they are made. The backward half of `bidirectional`
    /// also starts at the end, but there each state stands at the place of its input.
    ///
    /// Activations are `linear`, `relu`, `sigmoid`, `hard_sigmoid` or `sigmoid_hard` (which is
    /// min(max(0.2 x + 0.5, 0), 1)), and `tanh` or `scaled_tanh` (whose scales are 1).
    ///
    /// From iOS17 on fp16 is allowed.
    Lstm,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[
                required("x", Kind::T),
                required("initial_h", Kind::T),
                required("initial_c", Kind::T),
                required("weight_ih", Kind::T).constant(),
                required("weight_hh", Kind::T).constant(),
                optional("bias", Kind::T, Default::Absent).constant(),
                optional("peephole", Kind::T, Default::Absent).constant(),
                optional("weight_ih_back", Kind::T, Default::Absent).constant(),
                optional("weight_hh_back", Kind::T, Default::Absent).constant(),
                optional("bias_back", Kind::T, Default::Absent).constant(),
                optional("peephole_back", Kind::T, Default::Absent).constant(),
                optional("direction", Kind::STRING, Default::Str("forward")).constant(),
                optional("output_sequence", Kind::BOOL, Default::Bool(false)).constant(),
                optional("recurrent_activation", Kind::STRING, Default::Str("sigmoid")).constant(),
                optional("cell_activation", Kind::STRING, Default::Str("tanh")).constant(),
                optional("activation", Kind::STRING, Default::Str("tanh")).constant(),
                optional("clip", Kind::T, Default::Absent).constant(),
            ],
            types: &[("T", &[Fp32])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                required("initial_h", Kind::T),
                required("initial_c", Kind::T),
                required("weight_ih", Kind::T).constant(),
                required("weight_hh", Kind::T).constant(),
                optional("bias", Kind::T, Default::Absent).constant(),
                optional("peephole", Kind::T, Default::Absent).constant(),
                optional("weight_ih_back", Kind::T, Default::Absent).constant(),
                optional("weight_hh_back", Kind::T, Default::Absent).constant(),
                optional("bias_back", Kind::T, Default::Absent).constant(),
                optional("peephole_back", Kind::T, Default::Absent).constant(),
                optional("direction", Kind::STRING, Default::Str("forward")).constant(),
                optional("output_sequence", Kind::BOOL, Default::Bool(false)).constant(),
                optional("recurrent_activation", Kind::STRING, Default::Str("sigmoid")).constant(),
                optional("cell_activation", Kind::STRING, Default::Str("tanh")).constant(),
                optional("activation", Kind::STRING, Default::Str("tanh")).constant(),
                optional("clip", Kind::T, Default::Absent).constant(),
            ],
            types: &[("T", &[Fp16, Fp32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let direction = check_direction(op, &["forward", "reverse", "bidirectional"])?;
    check_activations(op, &["recurrent_activation", "cell_activation", "activation"])?;
    let hidden = check_weights(op, 4, "weight_ih", "weight_hh", &[("bias", 4), ("peephole", 3)])?;
    let directions = if direction == "bidirectional" { 2 } else { 1 };
    if directions == 2 {
        let vectors = [("bias_back", 4), ("peephole_back", 3)];
        if check_weights(op, 4, "weight_ih_back", "weight_hh_back", &vectors)? != hidden {
            return Err(InferError("the two directions have states of different sizes".into()));
        }
    }
    if op.has("clip") {
        op.float("clip")?;
    }
    outputs(op, hidden, directions, &["initial_h", "initial_c"])
}
