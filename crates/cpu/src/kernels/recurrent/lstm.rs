//! `lstm`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Lstm;

use crate::convert::to_f32;
use crate::kernels::recurrent::{Activation, Layer, Weights};
use crate::math::bound;
use crate::simd::{Op, Simd};
use crate::{Kernel, KernelError, Packed, Params, Prepared, Step};

impl Kernel for Lstm {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let packed = layer(p)?.pack(&weights(p)?)?;
        step(p, packed)
    }

    fn pack(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Option<Packed>, KernelError> {
        layer(p)?.pack(&weights(p)?).map(Some)
    }

    fn prepare_packed(
        p: &Params<'_, Self>,
        _: &[TensorType],
        packed: Packed,
    ) -> Result<Prepared, KernelError> {
        step(p, packed)
    }
}

fn layer(p: &Params<'_, Lstm>) -> Result<Layer, KernelError> {
    Layer::new(p.x, p.weight_hh, 4, p.direction, p.output_sequence)
}

fn weights<'a>(p: &Params<'a, Lstm>) -> Result<Vec<Weights<'a>>, KernelError> {
    let mut all = vec![Weights { ih: p.weight_ih, hh: p.weight_hh }];
    if p.direction == "bidirectional" {
        let (Some(ih), Some(hh)) = (p.weight_ih_back, p.weight_hh_back) else {
            return Err(KernelError::invalid("the weights of the backward direction are missing"));
        };
        all.push(Weights { ih, hh });
    }
    Ok(all)
}

fn step(p: &Params<'_, Lstm>, packed: Packed) -> Result<Prepared, KernelError> {
    let layer = layer(p)?;
    layer.check(&packed)?;
    let initial = [p.initial_h.slot, p.initial_c.slot];
    let slot = |t: Option<milwright_mil::ops::Operand<'_>>| t.map(|t| t.slot);
    let mut vectors = vec![(slot(p.bias), slot(p.peephole))];
    if layer.bidirectional {
        vectors.push((slot(p.bias_back), slot(p.peephole_back)));
    }
    let gate = Activation::new(p.recurrent_activation)?;
    let candidate = Activation::new(p.cell_activation)?;
    let activation = Activation::new(p.activation)?;
    let clip = p.clip.map(f32::abs);
    let scratch = layer.scratch(1);
    let step = Step::new(move |run| {
        let read = |slot: Option<usize>| slot.map(|slot| to_f32(&run.inputs[slot]));
        let biases: Vec<_> = vectors.iter().map(|v| layer.pad(read(v.0).as_deref(), 4)).collect();
        let peepholes: Vec<_> =
            vectors.iter().map(|v| v.1.map(|slot| layer.pad(read(Some(slot)).as_deref(), 3))).collect();
        let width = layer.width();
        layer.run(run, &packed, &initial, 1, &biases, |d, hh, gates, h, c| {
            layer.add_states(h, hh, 0..4, gates, width);
            let instances = gates.chunks_exact_mut(width);
            let states = h.chunks_exact_mut(layer.padded).zip(c.chunks_exact_mut(layer.padded));
            for (gates, (h, c)) in instances.zip(states) {
                let peephole = peepholes[d].as_deref();
                layer.isa.run(Cell { gates, h, c, peephole, gate, candidate, activation, clip });
            }
        });
        Ok(())
    });
    Ok(step.with_scratch(scratch).into())
}

/// A step of one instance, after the products. All vectors are padded.
struct Cell<'a> {
    /// In the order i, f, o, z.
    gates: &'a mut [f32],
    h: &'a mut [f32],
    c: &'a mut [f32],
    peephole: Option<&'a [f32]>,
    gate: Activation,
    candidate: Activation,
    activation: Activation,
    clip: Option<f32>,
}

impl Op for Cell<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Cell { gates, h, c, peephole, gate, candidate, activation, clip } = self;
        let n = h.len();
        let (i, rest) = gates.split_at_mut(n);
        let (f, rest) = rest.split_at_mut(n);
        let (o, z) = rest.split_at_mut(n);
        if let Some(p) = peephole {
            add_scaled(i, &p[..n], c);
            add_scaled(f, &p[n..2 * n], c);
        }
        gate.apply(i);
        gate.apply(f);
        candidate.apply(z);
        for (((c, &f), &i), &z) in c.iter_mut().zip(&*f).zip(&*i).zip(&*z) {
            *c = f * *c + i * z;
        }
        if let Some(clip) = clip {
            c.iter_mut().for_each(|c| *c = bound(*c, -clip, clip));
        }
        if let Some(p) = peephole {
            add_scaled(o, &p[2 * n..], c);
        }
        gate.apply(o);
        h.copy_from_slice(c);
        activation.apply(h);
        for (h, &o) in h.iter_mut().zip(&*o) {
            *h *= o;
        }
    }
}

/// Adds the product of two vectors.
#[inline(always)]
fn add_scaled(to: &mut [f32], x: &[f32], y: &[f32]) {
    for ((to, x), y) in to.iter_mut().zip(x).zip(y) {
        *to += x * y;
    }
}
