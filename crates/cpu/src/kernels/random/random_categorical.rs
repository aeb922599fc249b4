//! `random_categorical`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::RandomCategorical;

use crate::convert::{to_f32, write_f32};
use crate::kernel::concrete;
use crate::kernels::random::{Draws, seed};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for RandomCategorical {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = concrete(&p.x)?;
        let (slot, seed) = (p.x.slot, seed(p.seed));
        let logits = p.mode == "logits";
        let classes = shape.last().copied().unwrap_or(0);
        let size = concrete(&outputs[0])?.last().copied().unwrap_or(0);
        if classes == 0 {
            return Err(KernelError::invalid("there is nothing to draw from"));
        }
        Ok(Prepared::step(move |run| {
            let x = to_f32(&run.inputs[slot]);
            let seed = seed.unwrap_or_else(super::fresh_seed);
            let mut out = Vec::with_capacity(run.outputs[0].elements());
            for row in x.chunks(classes) {
                let sums = cumulative(row, logits);
                let total = sums.last().copied().unwrap_or(0.0);
                for _ in 0..size {
                    let u = Draws::new(seed, out.len()).uniform() * total;
                    let drawn = sums.partition_point(|&s| s <= u).min(classes - 1);
                    out.push(drawn as f32);
                }
            }
            write_f32(&mut run.outputs[0], 0, &out);
            Ok(())
        }))
    }
}

/// Returns the cumulative probabilities of the classes, up to a common factor.
fn cumulative(row: &[f32], logits: bool) -> Vec<f64> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |&x: &f32| if logits { f64::from(x - max).exp() } else { f64::from(x) };
    let mut total = 0.0;
    let add = |w| {
        total += w;
        total
    };
    row.iter().map(weight).map(add).collect()
}
