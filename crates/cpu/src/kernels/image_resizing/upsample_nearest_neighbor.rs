//! `upsample_nearest_neighbor`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::UpsampleNearestNeighbor;

use super::lines::Resize;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for UpsampleNearestNeighbor {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let x = p.x.slot;
        let resize = Resize::Repeat;
        Ok(Prepared::step(move |run| resize.run(2, run.inputs[x], &mut run.outputs[0], run.pool)))
    }
}
