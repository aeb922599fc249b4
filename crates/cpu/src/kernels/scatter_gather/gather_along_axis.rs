//! `gather_along_axis`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::GatherAlongAxis;

use super::indices::Indices;
use crate::kernel::concrete;
use crate::kernels::tensor::moves::{around, by_width};
use crate::{Kernel, KernelError, Params, Prepared, View, ViewMut};

impl Kernel for GatherAlongAxis {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, x) = (p.x.slot, concrete(&p.x)?);
        let (_, n, inner) = around(&x, p.axis.resolve(x.len())?);
        let taken = concrete(&p.indices)?[p.axis.resolve(x.len())?];
        let (indices, dtype) = (Indices::of(p.indices, p.validate_indices), outputs[0].dtype);
        Ok(Prepared::step(move |run| {
            let at = indices.of_size(run.inputs, n)?;
            by_width!(dtype, take(run.inputs[slot], &at, [n, taken, inner], &mut run.outputs[0]));
            Ok(())
        }))
    }
}

fn take<T: bytemuck::Pod>(x: View<'_>, at: &[usize], [n, taken, inner]: [usize; 3], out: &mut ViewMut<'_>) {
    let x = x.words::<T>();
    for (i, (o, &index)) in out.words::<T>().iter_mut().zip(at).enumerate() {
        *o = x[(i / (taken * inner) * n + index) * inner + i % inner];
    }
}
