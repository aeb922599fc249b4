//! `reverse_sequence`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ReverseSequence;

use super::moves::{around, ints};
use crate::index::strides;
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for ReverseSequence {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, lengths, shape) = (op.slot("x")?, op.slot("lengths")?, op.shape("x")?);
        let seq = op.axis("seq_axis", shape.len())?;
        let batch = op.axis("batch_axis", shape.len())?;
        let element = op.dtype("x")?.bits() / 8;
        Ok(Prepared::step(move |run| {
            let lengths = ints(run.inputs, lengths)?;
            let (_, n, _) = around(&shape, seq);
            if let Some(l) = lengths.iter().find(|&&l| l < 0 || l as usize > n) {
                return Err(KernelError::invalid(format!("length {l} is not from 0 to {n}")));
            }
            let own = strides(&shape);
            // Elements after the inner one of the two axes move together.
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
