//! `reduce_log_sum`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ReduceLogSum;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Params, Prepared, math};

impl Kernel for ReduceLogSum {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(
            p.x,
            p.axes.as_ref(),
            |x| math::sum(x).ln(),
            |x| x.iter().map(|&x| f64::from(x)).sum::<f64>().ln() as i32,
        )
    }
}
