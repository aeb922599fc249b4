//! `layer_norm`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::LayerNorm;

use crate::kernel::OpViewExt;
use crate::kernels::normalization::{Affine, standardize};
use crate::rows::{Rows, map_rows};
use crate::{Kernel, KernelError, Prepared};

impl Kernel for LayerNorm {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = op.shape("x")?;
        let axes = op.opt_axes("axes", shape.len())?.unwrap_or_else(|| (0..shape.len()).collect());
        let rows = Rows::new(&shape, &axes);
        let (slot, epsilon, affine) = (op.slot("x")?, op.float("epsilon")?, Affine::new(op));
        Ok(Prepared::step(move |run| {
            // A row holds its elements in the order of `x`, as gamma and beta do.
            let (gamma, beta) = affine.read(run.inputs, rows.len);
            map_rows(&rows, &run.inputs[slot], &mut run.outputs[0], run.pool, |_, row| {
                standardize(row, epsilon);
                for ((x, gamma), beta) in row.iter_mut().zip(&gamma[..]).zip(&beta[..]) {
                    *x = *x * gamma + beta;
                }
            });
            Ok(())
        }))
    }
}
