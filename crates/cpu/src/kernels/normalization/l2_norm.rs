//! `l2_norm`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::L2Norm;

use crate::kernel::concrete;
use crate::rows::{Rows, map_rows};
use crate::{Kernel, KernelError, Params, Prepared, math};

impl Kernel for L2Norm {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = concrete(&p.x)?;
        let rows = Rows::new(&shape, &(shape.len() - 3..shape.len()).collect::<Vec<_>>());
        let (slot, epsilon) = (p.x.slot, p.epsilon);
        Ok(Prepared::step(move |run| {
            map_rows(&rows, &run.inputs[slot], &mut run.outputs[0], run.pool, |_, row| {
                let scale = 1.0 / (math::sum_of(row, |x| x * x) + epsilon).sqrt();
                math::update(row, |x| x * scale);
            });
            Ok(())
        }))
    }
}
