//! `instance_norm`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::InstanceNorm;

use crate::kernel::concrete;
use crate::kernels::normalization::{Affine, standardize};
use crate::rows::{Rows, map_rows};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for InstanceNorm {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = concrete(&p.x)?;
        let (channels, rows) = (shape[1], Rows::new(&shape, &(2..shape.len()).collect::<Vec<_>>()));
        let (slot, epsilon, affine) = (p.x.slot, p.epsilon, Affine::new(p.gamma, p.beta));
        Ok(Prepared::step(move |run| {
            let (gamma, beta) = affine.read(run.inputs, channels);
            map_rows(&rows, &run.inputs[slot], &mut run.outputs[0], run.pool, |i, row| {
                standardize(row, epsilon);
                let (gamma, beta) = (gamma[i % channels], beta[i % channels]);
                row.iter_mut().for_each(|x| *x = *x * gamma + beta);
            });
            Ok(())
        }))
    }
}
