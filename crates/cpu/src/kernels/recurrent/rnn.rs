//! `rnn`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Rnn;

use crate::convert::to_f32;
use crate::kernels::recurrent::{Activation, Layer, Weights};
use crate::simd::{Op, Simd};
use crate::{Kernel, KernelError, Packed, Params, Prepared, Step};

impl Kernel for Rnn {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let packed = layer(p)?.pack(&weights(p))?;
        step(p, packed)
    }

    fn pack(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Option<Packed>, KernelError> {
        layer(p)?.pack(&weights(p)).map(Some)
    }

    fn prepare_packed(
        p: &Params<'_, Self>,
        _: &[TensorType],
        packed: Packed,
    ) -> Result<Prepared, KernelError> {
        step(p, packed)
    }
}

fn layer(p: &Params<'_, Rnn>) -> Result<Layer, KernelError> {
    Layer::new(p.x, p.weight_hh, 1, p.direction, p.output_sequence)
}

fn weights<'a>(p: &Params<'a, Rnn>) -> [Weights<'a>; 1] {
    [Weights { ih: p.weight_ih, hh: p.weight_hh }]
}

fn step(p: &Params<'_, Rnn>, packed: Packed) -> Result<Prepared, KernelError> {
    let layer = layer(p)?;
    layer.check(&packed)?;
    let (initial, bias) = (p.initial_h.slot, p.bias.map(|t| t.slot));
    let activation = Activation::new(p.activation)?;
    let scratch = layer.scratch(0);
    let step = Step::new(move |run| {
        let bias = bias.map(|slot| to_f32(&run.inputs[slot]));
        let biases = [layer.pad(bias.as_deref(), 1)];
        layer.run(run, &packed, &[initial], 0, &biases, |_, hh, gates, h, _| {
            layer.add_states(h, hh, 0..1, gates, layer.padded);
            h.copy_from_slice(gates);
            layer.isa.run(Cell { h, activation });
        });
        Ok(())
    });
    Ok(step.with_scratch(scratch).into())
}

struct Cell<'a> {
    h: &'a mut [f32],
    activation: Activation,
}

impl Op for Cell<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.activation.apply(self.h);
    }
}
