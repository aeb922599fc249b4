//! `rnn`

use crate::op;
use crate::ops::recurrent::{check_activations, check_direction, check_weights, outputs};
use crate::ops::{InferError, Inferred};

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
    Rnn since Ios13, Ios17 {
        x: Operand<T>,
        initial_h: Operand<T>,
        weight_ih: Const<T>,
        weight_hh: Const<T>,
        bias: Option<Const<T>>,
        direction: Str = "forward",
        output_sequence: bool = false,
        activation: Str = "tanh",
    }
    where T: [Fp32] since Ios17 [Fp16]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    check_direction(p.direction, &["forward", "reverse"])?;
    check_activations(&[("activation", p.activation)])?;
    let hidden = check_weights(p.x, 1, [p.weight_ih, p.weight_hh], &[(p.bias, 1)])?;
    outputs(p.x, p.output_sequence, hidden, 1, &[p.initial_h])
}
