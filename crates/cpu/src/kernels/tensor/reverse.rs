//! `reverse`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Reverse;

use super::moves::walk_step;
use crate::index::{Walk, strides};
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Reverse {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = op.shape("x")?;
        let axes = op.opt_axes("axes", shape.len())?.unwrap_or_else(|| (0..shape.len()).collect());
        let own = strides(&shape);
        let step = |d: usize| if axes.contains(&d) { -(own[d] as isize) } else { own[d] as isize };
        let last = |&d: &usize| shape[d].saturating_sub(1) * own[d];
        let offset: usize = axes.iter().map(last).sum();
        Ok(walk_step(op.slot("x")?, Walk::new(&shape, (0..shape.len()).map(step), offset as isize)))
    }
}
