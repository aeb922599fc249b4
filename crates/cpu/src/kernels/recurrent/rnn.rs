//! `rnn`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Rnn;

use crate::convert::to_f32;
use crate::kernels::recurrent::{Activation, Layer, States, Weights};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Rnn {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (layer, weights) = (
            Layer::new(p.x, p.weight_hh, p.direction, p.output_sequence)?,
            Weights::new(p.weight_ih, p.weight_hh, p.bias),
        );
        let (initial, activation) = (p.initial_h.slot, Activation::new(p.activation)?);
        Ok(Prepared::step(move |run| {
            let weights = weights.read(run.inputs);
            let mut h = layer.half(&to_f32(&run.inputs[initial]), 0);
            let mut states = States::new(&layer);
            let steps = layer.input_gates(&run.inputs[layer.x], &weights, weights.bias.as_deref());
            layer.walk(steps, layer.reverse, |turn, _, gates| {
                weights.add_hidden(&h, gates);
                activation.apply(gates);
                h.copy_from_slice(gates);
                states.put(turn, 0, &h);
            });
            states.write(&mut run.outputs[0]);
            layer.write_last(&[&h], &mut run.outputs[1]);
            Ok(())
        }))
    }
}
