//! `upsample_nearest_neighbor`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::UpsampleNearestNeighbor;

use super::lines::Resize;
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for UpsampleNearestNeighbor {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let x = op.slot("x")?;
        let resize = Resize::Repeat;
        Ok(Prepared::step(move |run| resize.run(2, run.inputs[x], &mut run.outputs[0], run.pool)))
    }
}
