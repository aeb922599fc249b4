//! `band_part`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::BandPart;

use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for BandPart {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, x) = (p.x.slot, concrete(&p.x)?);
        let (rows, columns) = (x[x.len() - 2], x[x.len() - 1]);
        let (lower, upper) = (p.lower, p.upper);
        let element = p.x.dtype.bits() / 8;
        Ok(Prepared::step(move |run| {
            let (from, out) = (run.inputs[slot].bytes(), run.outputs[0].bytes());
            let row = (columns * element).max(1);
            for (r, (to, from)) in out.chunks_exact_mut(row).zip(from.chunks_exact(row)).enumerate() {
                let m = (r % rows) as i64;
                let clamp = |n: i64| n.clamp(0, columns as i64) as usize * element;
                let first = if lower < 0 { 0 } else { clamp(m - lower) };
                let end = if upper < 0 { row } else { clamp(m + upper + 1) }.max(first);
                to.fill(0);
                to[first..end].copy_from_slice(&from[first..end]);
            }
            Ok(())
        }))
    }
}
