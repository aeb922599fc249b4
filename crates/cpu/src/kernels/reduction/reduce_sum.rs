//! `reduce_sum`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ReduceSum;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Params, Prepared, math};

impl Kernel for ReduceSum {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(p.x, p.axes.as_ref(), math::sum, |x| x.iter().fold(0i32, |a, &b| a.wrapping_add(b)))
    }
}
