//! `reverse_sequence`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ReverseSequence;

use super::moves::{around, ints};
use crate::index::strides;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for ReverseSequence {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, lengths, shape) = (p.x.slot, p.lengths.slot, concrete(&p.x)?);
        let seq = p.seq_axis.resolve(shape.len())?;
        let batch = p.batch_axis.resolve(shape.len())?;
        let element = p.x.dtype.bits() / 8;
        Ok(Prepared::step(move |run| {
            let lengths = ints(run.inputs, lengths)?;
            let (_, n, _) = around(&shape, seq);
            if let Some(l) = lengths.iter().find(|&&l| l < 0 || l as usize > n) {
                return Err(KernelError::invalid(format!("length {l} is not from 0 to {n}")));
            }
            let own = strides(&shape);
            // Elements that differ only in dimensions behind both axes are contiguous, and move together.
            let run_length = own[seq.max(batch)].max(1);
            let (from, to) = (run.inputs[x].bytes(), run.outputs[0].bytes());
            for start in (0..from.len() / element).step_by(run_length) {
                let at = start / own[seq] % n;
                let length = lengths[start / own[batch] % shape[batch]] as usize;
                let source =
                    if at < length { start - at * own[seq] + (length - 1 - at) * own[seq] } else { start };
                let bytes = run_length * element;
                to[start * element..][..bytes].copy_from_slice(&from[source * element..][..bytes]);
            }
            Ok(())
        }))
    }
}
