//! `gru`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Gru;

use crate::convert::to_f32;
use crate::kernels::recurrent::{Activation, Layer, States, Weights, add_rows};
use crate::product::{Matrix, product};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Gru {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (layer, weights) = (
            Layer::new(p.x, p.weight_hh, p.direction, p.output_sequence)?,
            Weights::new(p.weight_ih, p.weight_hh, p.bias),
        );
        let (initial, input_bias) = (p.initial_h.slot, p.input_bias.map(|t| t.slot));
        let gate = Activation::new(p.recurrent_activation)?;
        let activation = Activation::new(p.activation)?;
        let reset_after = p.reset_after;
        Ok(Prepared::step(move |run| {
            let weights = weights.read(run.inputs);
            let input_bias = input_bias.map(|b| to_f32(&run.inputs[b]));
            let mut h = layer.half(&to_f32(&run.inputs[initial]), 0);
            let mut states = States::new(&layer);
            let (batch, n) = (layer.batch, layer.hidden);
            let mut hidden = vec![0.0; batch * 3 * n];
            let (mut reset, mut candidate) = (vec![0.0; batch * n], vec![0.0; batch * n]);
            let steps = layer.input_gates(&run.inputs[layer.x], &weights, input_bias.as_deref());
            layer.walk(steps, layer.reverse, |turn, _, gates| {
                hidden.fill(0.0);
                weights.add_hidden(&h, &mut hidden);
                if let Some(bias) = &weights.bias {
                    add_rows(bias, &mut hidden);
                }
                for (b, hidden) in hidden.chunks_mut(3 * n).enumerate() {
                    let gates = &mut gates[b * 3 * n..][..3 * n];
                    for part in [0..n, 2 * n..3 * n] {
                        add_rows(&hidden[part.clone()], &mut gates[part.clone()]);
                        gate.apply(&mut gates[part]);
                    }
                    for (i, reset) in reset[b * n..][..n].iter_mut().enumerate() {
                        *reset = gates[i] * h[b * n + i];
                        hidden[n + i] *= gates[i];
                    }
                }
                if !reset_after {
                    let w = &weights.hh[n * n..2 * n * n];
                    product(
                        [batch, n, n],
                        Matrix::rows(&reset, n),
                        Matrix::transposed(w, n),
                        &mut candidate,
                        n,
                        false,
                    );
                }
                for b in 0..batch {
                    let gates = &gates[b * 3 * n..][..3 * n];
                    let candidate = &mut candidate[b * n..][..n];
                    for (i, o) in candidate.iter_mut().enumerate() {
                        let bias = weights.bias.as_ref().map_or(0.0, |bias| bias[n + i]);
                        let recurrent = if reset_after { hidden[b * 3 * n + n + i] } else { *o + bias };
                        *o = gates[n + i] + recurrent;
                    }
                    activation.apply(candidate);
                    for (i, h) in h[b * n..][..n].iter_mut().enumerate() {
                        let z = gates[2 * n + i];
                        *h = (1.0 - z) * candidate[i] + z * *h;
                    }
                }
                states.put(turn, 0, &h);
            });
            states.write(&mut run.outputs[0]);
            layer.write_last(&[&h], &mut run.outputs[1]);
            Ok(())
        }))
    }
}
