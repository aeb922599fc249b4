//! `fill_like`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::FillLike;

use super::moves::{element, fill};
use crate::{Kernel, KernelError, Prepared};

impl Kernel for FillLike {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let value = element(op, "value", outputs[0].dtype, 0)?;
        Ok(Prepared::step(move |run| {
            fill(&mut run.outputs[0], &value);
            Ok(())
        }))
    }
}
