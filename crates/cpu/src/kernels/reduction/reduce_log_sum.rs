//! `reduce_log_sum`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ReduceLogSum;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Prepared, math};

impl Kernel for ReduceLogSum {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(op, |x| math::sum(x).ln(), |x| x.iter().map(|&x| f64::from(x)).sum::<f64>().ln() as i32)
    }
}
