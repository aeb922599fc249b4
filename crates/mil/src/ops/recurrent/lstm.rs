//! `lstm`

use crate::op;
use crate::ops::recurrent::{check_activations, check_direction, check_weights, outputs};
use crate::ops::{InferError, Inferred, Operand};

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
    Lstm since Ios13, Ios17 {
        x: Operand<T>,
        initial_h: Operand<T>,
        initial_c: Operand<T>,
        weight_ih: Const<T>,
        weight_hh: Const<T>,
        bias: Option<Const<T>>,
        peephole: Option<Const<T>>,
        weight_ih_back: Option<Const<T>>,
        weight_hh_back: Option<Const<T>>,
        bias_back: Option<Const<T>>,
        peephole_back: Option<Const<T>>,
        direction: Str = "forward",
        output_sequence: bool = false,
        recurrent_activation: Str = "sigmoid",
        cell_activation: Str = "tanh",
        activation: Str = "tanh",
        clip: Option<f32<T>>,
    }
    where T: [Fp32] since Ios17 [Fp16]
    => infer
}

fn infer<'a>(p: &Params<'a>) -> Result<Vec<Inferred>, InferError> {
    check_direction(p.direction, &["forward", "reverse", "bidirectional"])?;
    check_activations(&[
        ("recurrent_activation", p.recurrent_activation),
        ("cell_activation", p.cell_activation),
        ("activation", p.activation),
    ])?;
    let hidden = check_weights(p.x, 4, [p.weight_ih, p.weight_hh], &[(p.bias, 4), (p.peephole, 3)])?;
    let directions = if p.direction == "bidirectional" { 2 } else { 1 };
    if directions == 2 {
        let bound = |weight: Option<Operand<'a>>, name| {
            weight.ok_or_else(|| InferError(format!("input `{name}` is missing")))
        };
        let weights =
            [bound(p.weight_ih_back, "weight_ih_back")?, bound(p.weight_hh_back, "weight_hh_back")?];
        let vectors = [(p.bias_back, 4), (p.peephole_back, 3)];
        if check_weights(p.x, 4, weights, &vectors)? != hidden {
            return Err(InferError("the two directions have states of different sizes".into()));
        }
    }
    outputs(p.x, p.output_sequence, hidden, directions, &[p.initial_h, p.initial_c])
}
