//! `reduce_max`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ReduceMax;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Prepared, math};

impl Kernel for ReduceMax {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(op, math::max, |x| x.iter().copied().max().unwrap_or(i32::MIN))
    }
}
