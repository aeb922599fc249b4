//! `l2_norm`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::L2Norm;

use crate::kernel::OpViewExt;
use crate::rows::{Rows, map_rows};
use crate::{Kernel, KernelError, Prepared, math};

impl Kernel for L2Norm {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = op.shape("x")?;
        let rows = Rows::new(&shape, &(shape.len() - 3..shape.len()).collect::<Vec<_>>());
        let (slot, epsilon) = (op.slot("x")?, op.float("epsilon")?);
        Ok(Prepared::step(move |run| {
            map_rows(&rows, &run.inputs[slot], &mut run.outputs[0], run.pool, |_, row| {
                let scale = 1.0 / (math::sum_of(row, |x| x * x) + epsilon).sqrt();
                math::update(row, |x| x * scale);
            });
            Ok(())
        }))
    }
}
