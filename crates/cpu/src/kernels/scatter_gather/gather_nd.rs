//! `gather_nd`

use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::GatherNd;
use milwright_mil::{Opset, TensorType};

use super::indices::Indices;
use crate::index::count;
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for GatherNd {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, x) = (op.slot("x")?, op.shape("x")?);
        let depth = op.shape("indices")?.last().copied().unwrap_or(0);
        let batch = if op.version.opset < Opset::Ios16 { 0 } else { op.int("batch_dims")? as usize };
        let indices = Indices::of(op)?;
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
