//! `local_response_norm`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::LocalResponseNorm;

use crate::kernel::concrete;
use crate::rows::{Rows, map_rows};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for LocalResponseNorm {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let rows = Rows::new(&concrete(&p.x)?, &[1]);
        let size = p.size;
        let scale = p.alpha / size as f32;
        let (beta, k) = (p.beta, p.k);
        // A size beyond the number of channels is clipped below.
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let (before, after) = (size / 2, (size - 1) / 2);
        let slot = p.x.slot;
        Ok(Prepared::step(move |run| {
            map_rows(&rows, &run.inputs[slot], &mut run.outputs[0], run.pool, |_, row| {
                // Running sums of squares over the channels, in f64 so that their differences stay accurate.
                let mut sums = vec![0.0f64];
                for &x in &*row {
                    sums.push(sums[sums.len() - 1] + f64::from(x) * f64::from(x));
                }
                let last = row.len() - 1;
                for (c, x) in row.iter_mut().enumerate() {
                    let (first, last) = (c.saturating_sub(before), c.saturating_add(after).min(last));
                    let sum = (sums[last + 1] - sums[first]) as f32;
                    *x /= (k + scale * sum).powf(beta);
                }
            });
            Ok(())
        }))
    }
}
