//! `gru`

use crate::op;
use crate::ops::recurrent::{check_activations, check_direction, check_weights, outputs};
use crate::ops::{InferError, Inferred};

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
    Gru since Ios13, Ios17, Ios18 {
        x: Operand<T>,
        initial_h: Operand<T>,
        weight_ih: Const<T>,
        weight_hh: Const<T>,
        bias: Option<Const<T>>,
        direction: Str = "forward",
        output_sequence: bool = false,
        recurrent_activation: Str = "sigmoid",
        activation: Str = "tanh",
        reset_after: bool since Ios18 = false,
        input_bias: Option<Const<T>> since Ios18,
    }
    where T: [Fp32] since Ios17 [Fp16]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    check_direction(p.direction, &["forward", "reverse"])?;
    check_activations(&[("recurrent_activation", p.recurrent_activation), ("activation", p.activation)])?;
    let hidden = check_weights(p.x, 3, [p.weight_ih, p.weight_hh], &[(p.bias, 3), (p.input_bias, 3)])?;
    outputs(p.x, p.output_sequence, hidden, 1, &[p.initial_h])
}
