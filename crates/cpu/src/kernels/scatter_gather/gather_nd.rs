//! `gather_nd`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::GatherNd;

use super::indices::Indices;
use crate::index::count;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for GatherNd {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, x) = (p.x.slot, concrete(&p.x)?);
        let depth = concrete(&p.indices)?.last().copied().unwrap_or(0);
        let batch = p.batch_dims as usize;
        let indices = Indices::of(p.indices, p.validate_indices);
        let dims = x[batch..batch + depth].to_vec();
        let batches = count(&x[..batch]);
        let part = count(&x[batch + depth..]) * outputs[0].dtype.bits() / 8;
        Ok(Prepared::step(move |run| {
            let at = indices.offsets(run.inputs, &dims)?;
            let (whole, each) = (count(&dims), (at.len() / batches.max(1)).max(1));
            let from = run.inputs[slot].bytes();
            if part == 0 || (whole == 0 && !at.is_empty()) {
                return Ok(());
            }
            for (i, (to, place)) in run.outputs[0].bytes().chunks_exact_mut(part).zip(at).enumerate() {
                to.copy_from_slice(&from[(i / each * whole + place) * part..][..part]);
            }
            Ok(())
        }))
    }
}
