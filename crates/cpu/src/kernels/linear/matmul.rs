//! `matmul`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Matmul;

use super::{Batched, batch_of};
use crate::index::count;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Packed, Params, Prepared};

impl Kernel for Matmul {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let from = [p.x.dtype, p.y.dtype];
        product(p, outputs)?.prepare(slots(p), None, from, outputs[0].dtype)
    }

    fn pack(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Option<Packed>, KernelError> {
        product(p, outputs)?.pack(p.x.dtype, p.y, outputs[0].dtype)
    }

    fn prepare_packed(
        p: &Params<'_, Self>,
        outputs: &[TensorType],
        packed: Packed,
    ) -> Result<Prepared, KernelError> {
        product(p, outputs)?.prepare_packed(slots(p), None, [p.x.dtype, outputs[0].dtype], packed)
    }
}

fn slots(p: &Params<'_, Matmul>) -> [usize; 2] {
    [p.x.slot, p.y.slot]
}

fn product(p: &Params<'_, Matmul>, outputs: &[TensorType]) -> Result<Batched, KernelError> {
    let (mut x, y) = (concrete(&p.x)?, concrete(&p.y)?);
    let mut out = concrete(&outputs[0])?;
    if x.len() == 1 {
        x.insert(0, 1);
        out.insert(out.len() - 1, 1);
    }
    let matrix = |shape: &[usize], transposed: bool| {
        let (rows, columns) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        if transposed { ([columns, rows], [1, columns]) } else { ([rows, columns], [columns, 1]) }
    };
    let ([mut m, k], x_strides) = matrix(&x, p.transpose_x);
    let ([_, n], y_strides) = matrix(&y, p.transpose_y);
    let (mut batch, mut batches): (&[usize], [&[usize]; 2]) = (batch_of(&out), [batch_of(&x), batch_of(&y)]);
    // If the whole batch has one weight, its matrices are more rows of a single product.
    if count(batches[1]) == 1 && x_strides == [k, 1] && batches[0] == batch {
        m *= count(batch);
        batch = &[];
        batches = [&[], &[]];
    }
    Ok(Batched::new([m, k, n], batch, batches, [x_strides, y_strides]))
}
