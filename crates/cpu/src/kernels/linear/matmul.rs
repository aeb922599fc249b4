//! `matmul`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Matmul;

use super::{Batched, batch_of};
use crate::index::count;
use crate::kernel::{OpViewExt, concrete};
use crate::{Kernel, KernelError, Packed, Prepared};

impl Kernel for Matmul {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let from = [op.dtype("x")?, op.dtype("y")?];
        product(op, outputs)?.prepare(slots(op)?, None, from, outputs[0].dtype)
    }

    fn pack(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Option<Packed>, KernelError> {
        product(op, outputs)?.pack(op, "y", outputs[0].dtype)
    }

    fn prepare_packed(
        op: &OpView<'_>,
        outputs: &[TensorType],
        packed: Packed,
    ) -> Result<Prepared, KernelError> {
        product(op, outputs)?.prepare_packed(slots(op)?, None, outputs[0].dtype, packed)
    }
}

fn slots(op: &OpView<'_>) -> Result<[usize; 2], KernelError> {
    Ok([op.slot("x")?, op.slot("y")?])
}

fn product(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Batched, KernelError> {
    let (mut x, y) = (op.shape("x")?, op.shape("y")?);
    let mut out = concrete(&outputs[0])?;
    if x.len() == 1 {
        x.insert(0, 1);
        out.insert(out.len() - 1, 1);
    }
    let matrix = |shape: &[usize], transposed: bool| {
        let (rows, columns) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        if transposed { ([columns, rows], [1, columns]) } else { ([rows, columns], [columns, 1]) }
    };
    let ([mut m, k], x_strides) = matrix(&x, op.bool("transpose_x")?);
    let ([_, n], y_strides) = matrix(&y, op.bool("transpose_y")?);
    let (mut batch, mut batches): (&[usize], [&[usize]; 2]) = (batch_of(&out), [batch_of(&x), batch_of(&y)]);
    // One weight for a whole batch: the batch is more rows.
    if count(batches[1]) == 1 && x_strides == [k, 1] && batches[0] == batch {
        m *= count(batch);
        batch = &[];
        batches = [&[], &[]];
    }
    Ok(Batched::new([m, k, n], batch, batches, [x_strides, y_strides]))
}
