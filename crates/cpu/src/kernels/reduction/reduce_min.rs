//! `reduce_min`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ReduceMin;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Params, Prepared, math};

impl Kernel for ReduceMin {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(p.x, p.axes.as_ref(), math::min, |x| x.iter().copied().min().unwrap_or(i32::MAX))
    }
}
