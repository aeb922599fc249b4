//! `sliding_windows`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::SlidingWindows;

use super::moves::{walk, walk_step};
use crate::index::strides;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for SlidingWindows {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let x = concrete(&p.x)?;
        let axis = p.axis.resolve(x.len())?;
        let mut steps = strides(&x).to_vec();
        let step = steps[axis];
        steps[axis] *= p.stride as usize;
        steps.insert(axis + 1, step);
        Ok(walk_step(p.x.slot, walk(&concrete(&outputs[0])?, &steps, 0)))
    }
}
