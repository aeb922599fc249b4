//! `reverse`

use milwright_mil::TensorType;
use milwright_mil::ops::Axes;
use milwright_mil::ops::defs::Reverse;

use super::moves::walk_step;
use crate::index::{Walk, strides};
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Reverse {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = concrete(&p.x)?;
        let axes = Axes::or_all(p.axes.as_ref(), shape.len())?;
        let own = strides(&shape);
        let step = |d: usize| if axes.contains(&d) { -(own[d] as isize) } else { own[d] as isize };
        let last = |&d: &usize| shape[d].saturating_sub(1) * own[d];
        let offset: usize = axes.iter().map(last).sum();
        Ok(walk_step(p.x.slot, Walk::new(&shape, (0..shape.len()).map(step), offset as isize)))
    }
}
