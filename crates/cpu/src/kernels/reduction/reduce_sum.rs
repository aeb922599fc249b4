//! `reduce_sum`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ReduceSum;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Prepared, math};

impl Kernel for ReduceSum {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(op, math::sum, |x| x.iter().fold(0i32, |a, &b| a.wrapping_add(b)))
    }
}
