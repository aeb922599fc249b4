//! `fill_like`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::FillLike;

use super::moves::{element, fill};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for FillLike {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let value = element(p.value, outputs[0].dtype, 0)?;
        Ok(Prepared::step(move |run| {
            fill(&mut run.outputs[0], &value);
            Ok(())
        }))
    }
}
