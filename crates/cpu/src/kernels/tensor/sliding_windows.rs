//! `sliding_windows`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::SlidingWindows;

use super::moves::{walk, walk_step};
use crate::index::strides;
use crate::kernel::{OpViewExt, concrete};
use crate::{Kernel, KernelError, Prepared};

impl Kernel for SlidingWindows {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let x = op.shape("x")?;
        let axis = op.axis("axis", x.len())?;
        let mut steps = strides(&x).to_vec();
        let step = steps[axis];
        steps[axis] *= op.int("stride")? as usize;
        steps.insert(axis + 1, step);
        Ok(walk_step(op.slot("x")?, walk(&concrete(&outputs[0])?, &steps, 0)))
    }
}
