//! `linear`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Linear;

use super::Batched;
use crate::index::count;
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Packed, Prepared};

impl Kernel for Linear {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let from = [op.dtype("x")?, op.dtype("weight")?];
        product(op)?.prepare(slots(op)?, op.opt_slot("bias"), from, outputs[0].dtype)
    }

    fn pack(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Option<Packed>, KernelError> {
        product(op)?.pack(op, "weight", outputs[0].dtype)
    }

    fn prepare_packed(
        op: &OpView<'_>,
        outputs: &[TensorType],
        packed: Packed,
    ) -> Result<Prepared, KernelError> {
        product(op)?.prepare_packed(slots(op)?, op.opt_slot("bias"), outputs[0].dtype, packed)
    }
}

fn product(op: &OpView<'_>) -> Result<Batched, KernelError> {
    let (x, weight) = (op.shape("x")?, op.shape("weight")?);
    let (n, k) = (weight[0], weight[1]);
    let rows = count(&x[..x.len() - 1]);
    Ok(Batched::new([rows, k, n], &[], [&[], &[]], [[k, 1], [1, k]]))
}

fn slots(op: &OpView<'_>) -> Result<[usize; 2], KernelError> {
    Ok([op.slot("x")?, op.slot("weight")?])
}
