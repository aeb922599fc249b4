//! `space_to_batch`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::SpaceToBatch;
use milwright_mil::ops::tensor::space_to_batch::blocks;

use super::moves::by_width;
use crate::{Kernel, KernelError, Params, Prepared, View, ViewMut};

impl Kernel for SpaceToBatch {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, dtype) = (p.x.slot, p.x.dtype);
        let (block, paddings) = blocks(&p.block_shape, "paddings", &p.paddings)?;
        let before = [paddings[0][0], paddings[1][0]];
        Ok(Prepared::step(move |run| {
            by_width!(dtype, collect(run.inputs[slot], block, before, &mut run.outputs[0]));
            Ok(())
        }))
    }
}

/// Copies each element of the output from its place in the images of `x`, or writes zero for padding.
fn collect<T: bytemuck::Pod>(x: View<'_>, block: [usize; 2], before: [usize; 2], out: &mut ViewMut<'_>) {
    let &[n, c, h, w] = x.shape() else { return };
    let (height, width) = (out.shape()[2], out.shape()[3]);
    let (x, out) = (x.words::<T>(), out.words::<T>());
    for (row, to) in out.chunks_exact_mut(width.max(1)).enumerate() {
        let (batch, channel, y) = (row / (c * height), row / height % c, row % height);
        let (offset, k) = (batch / n, batch % n);
        let y = (y * block[0] + offset / block[1]).wrapping_sub(before[0]);
        for (column, o) in to.iter_mut().enumerate() {
            let at = (column * block[1] + offset % block[1]).wrapping_sub(before[1]);
            *o = if y < h && at < w { x[((k * c + channel) * h + y) * w + at] } else { T::zeroed() };
        }
    }
}
