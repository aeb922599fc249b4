//! `reduce_max`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ReduceMax;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Params, Prepared, math};

impl Kernel for ReduceMax {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(p.x, p.axes.as_ref(), math::max, |x| x.iter().copied().max().unwrap_or(i32::MIN))
    }
}
