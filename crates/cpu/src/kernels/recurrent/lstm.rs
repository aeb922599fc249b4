//! `lstm`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Lstm;

use crate::convert::to_f32;
use crate::kernels::recurrent::{Activation, Layer, States, Weights};
use crate::math::bound;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Lstm {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let layer = Layer::new(p.x, p.weight_hh, p.direction, p.output_sequence)?;
        let mut directions =
            vec![(Weights::new(p.weight_ih, p.weight_hh, p.bias), p.peephole.map(|t| t.slot))];
        if layer.bidirectional {
            let (Some(ih), Some(hh)) = (p.weight_ih_back, p.weight_hh_back) else {
                return Err(KernelError::invalid("the weights of the backward direction are missing"));
            };
            directions.push((Weights::new(ih, hh, p.bias_back), p.peephole_back.map(|t| t.slot)));
        }
        let (initial_h, initial_c) = (p.initial_h.slot, p.initial_c.slot);
        let gate = Activation::new(p.recurrent_activation)?;
        let cell = Activation::new(p.cell_activation)?;
        let activation = Activation::new(p.activation)?;
        let clip = p.clip.map_or(f32::INFINITY, f32::abs);
        Ok(Prepared::step(move |run| {
            let (initial_h, initial_c) = (to_f32(&run.inputs[initial_h]), to_f32(&run.inputs[initial_c]));
            let mut states = States::new(&layer);
            let (mut last_h, mut last_c) = (Vec::new(), Vec::new());
            let n = layer.hidden;
            for (d, (weights, peephole)) in directions.iter().enumerate() {
                let weights = weights.read(run.inputs);
                let peephole = peephole.map_or(vec![0.0; 3 * n].into(), |p| to_f32(&run.inputs[p]));
                let (mut h, mut c) = (layer.half(&initial_h, d), layer.half(&initial_c, d));
                let steps = layer.input_gates(&run.inputs[layer.x], &weights, weights.bias.as_deref());
                layer.walk(steps, layer.reverse || d == 1, |turn, position, gates| {
                    weights.add_hidden(&h, gates);
                    for ((gates, h), c) in gates.chunks_mut(4 * n).zip(h.chunks_mut(n)).zip(c.chunks_mut(n)) {
                        let (gates, z) = gates.split_at_mut(3 * n);
                        for i in 0..n {
                            gates[i] += peephole[i] * c[i];
                            gates[n + i] += peephole[n + i] * c[i];
                        }
                        gate.apply(&mut gates[..2 * n]);
                        cell.apply(z);
                        for i in 0..n {
                            c[i] = bound(gates[n + i] * c[i] + gates[i] * z[i], -clip, clip);
                            gates[2 * n + i] += peephole[2 * n + i] * c[i];
                        }
                        gate.apply(&mut gates[2 * n..]);
                        h.copy_from_slice(c);
                        activation.apply(h);
                        for (h, o) in h.iter_mut().zip(&gates[2 * n..]) {
                            *h *= o;
                        }
                    }
                    // In a bidirectional network, both halves of an output row are for the same position of the input.
                    let place = if layer.bidirectional { position } else { turn };
                    states.put(place, d, &h);
                });
                last_h.push(h);
                last_c.push(c);
            }
            states.write(&mut run.outputs[0]);
            layer.write_last(&last_h.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut run.outputs[1]);
            layer.write_last(&last_c.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut run.outputs[2]);
            Ok(())
        }))
    }
}
