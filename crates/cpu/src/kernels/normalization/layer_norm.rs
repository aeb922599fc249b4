//! `layer_norm`

use milwright_mil::TensorType;
use milwright_mil::ops::Axes;
use milwright_mil::ops::defs::LayerNorm;

use crate::kernel::concrete;
use crate::kernels::normalization::{Affine, standardize};
use crate::rows::{Rows, map_rows};
use crate::{Kernel, KernelError, Params, Prepared, math};

impl Kernel for LayerNorm {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = concrete(&p.x)?;
        let axes = Axes::or_all(p.axes.as_ref(), shape.len())?;
        let rows = Rows::new(&shape, &axes);
        let (slot, epsilon, affine) = (p.x.slot, p.epsilon, Affine::new(p.gamma, p.beta));
        Ok(Prepared::step(move |run| {
            // The elements of a row, of gamma and of beta are in the same order.
            let (gamma, beta) = affine.read(run.inputs, rows.len);
            map_rows(&rows, &run.inputs[slot], &mut run.outputs[0], run.pool, |_, row| {
                standardize(row, epsilon);
                math::scale_and_shift(row, &gamma, &beta);
            });
            Ok(())
        }))
    }
}
