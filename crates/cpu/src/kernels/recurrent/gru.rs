//! `gru`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Gru;

use crate::convert::to_f32;
use crate::kernels::recurrent::{Activation, Layer, Weights};
use crate::simd::{Op, Simd};
use crate::{Kernel, KernelError, Packed, Params, Prepared, Step};

impl Kernel for Gru {
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

fn layer(p: &Params<'_, Gru>) -> Result<Layer, KernelError> {
    Layer::new(p.x, p.weight_hh, 3, p.direction, p.output_sequence)
}

fn weights<'a>(p: &Params<'a, Gru>) -> [Weights<'a>; 1] {
    [Weights { ih: p.weight_ih, hh: p.weight_hh }]
}

// The gates, in the order of the weights.
const RESET: usize = 0;
const CANDIDATE: usize = 1;
const UPDATE: usize = 2;

fn step(p: &Params<'_, Gru>, packed: Packed) -> Result<Prepared, KernelError> {
    let layer = layer(p)?;
    layer.check(&packed)?;
    let (initial, slots) = (p.initial_h.slot, [p.bias.map(|t| t.slot), p.input_bias.map(|t| t.slot)]);
    let gate = Activation::new(p.recurrent_activation)?;
    let activation = Activation::new(p.activation)?;
    let reset_after = p.reset_after;
    let scratch = layer.scratch(2);
    let step = Step::new(move |run| {
        let read = |slot: Option<usize>| slot.map(|slot| to_f32(&run.inputs[slot]));
        let [bias, mut input_bias] = slots.map(|slot| layer.pad(read(slot).as_deref(), 3));
        let (n, width) = (layer.padded, layer.width());
        // The biases of these gates are only ever added up.
        for gate in [RESET, UPDATE] {
            let range = gate * n..(gate + 1) * n;
            input_bias[range.clone()].iter_mut().zip(&bias[range]).for_each(|(to, b)| *to += b);
        }
        let bias = &bias[CANDIDATE * n..][..n];
        layer.run(run, &packed, &[initial], 2, &[input_bias], |_, hh, gates, h, more| {
            let (hidden, reset) = more.split_at_mut(h.len());
            hidden.chunks_exact_mut(n).for_each(|hidden| hidden.copy_from_slice(bias));
            for gate in [RESET, UPDATE] {
                layer.add_states(h, hh, gate..gate + 1, &mut gates[gate * n..], width);
            }
            let mut cells = |part, h: &mut [f32], hidden: &mut [f32], reset: &mut [f32]| {
                let vectors =
                    h.chunks_exact_mut(n).zip(hidden.chunks_exact_mut(n)).zip(reset.chunks_exact_mut(n));
                for (gates, ((h, hidden), reset)) in gates.chunks_exact_mut(width).zip(vectors) {
                    layer.isa.run(Cell { part, gates, h, hidden, reset, gate, activation });
                }
            };
            if reset_after {
                layer.add_states(h, hh, CANDIDATE..CANDIDATE + 1, hidden, n);
                cells(Part::After, h, hidden, reset);
            } else {
                cells(Part::Before, h, hidden, reset);
                layer.add_states(reset, hh, CANDIDATE..CANDIDATE + 1, hidden, n);
                cells(Part::Rest, h, hidden, reset);
            }
        });
        Ok(())
    });
    Ok(step.with_scratch(scratch).into())
}

/// What of a step to compute.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// All; the reset gate is for the candidate's product with the state.
    After,
    /// The reset and update gates, and `reset`: the state, as the reset gate lets it through to the candidate.
    Before,
    /// What follows the candidate's product with `reset`.
    Rest,
}

/// A step of one instance, after the products. All vectors are padded.
struct Cell<'a> {
    part: Part,
    gates: &'a mut [f32],
    h: &'a mut [f32],
    /// The candidate's product with the state.
    hidden: &'a mut [f32],
    reset: &'a mut [f32],
    gate: Activation,
    activation: Activation,
}

impl Op for Cell<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Cell { part, gates, h, hidden, reset, gate, activation } = self;
        let (r, rest) = gates.split_at_mut(h.len());
        let (o, z) = rest.split_at_mut(h.len());
        if part != Part::Rest {
            gate.apply(r);
            gate.apply(z);
        }
        match part {
            Part::Before => {
                reset.iter_mut().zip(&*r).zip(&*h).for_each(|((to, r), h)| *to = r * h);
                return;
            }
            Part::After => hidden.iter_mut().zip(&*r).for_each(|(hidden, r)| *hidden *= r),
            Part::Rest => {}
        }
        o.iter_mut().zip(&*hidden).for_each(|(o, hidden)| *o += hidden);
        activation.apply(o);
        for ((h, &z), &o) in h.iter_mut().zip(&*z).zip(&*o) {
            *h = (1.0 - z) * o + z * *h;
        }
    }
}
