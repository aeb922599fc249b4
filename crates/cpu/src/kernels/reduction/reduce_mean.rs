//! `reduce_mean`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ReduceMean;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Params, Prepared, math};

impl Kernel for ReduceMean {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(
            p.x,
            p.axes.as_ref(),
            |x| math::sum(x) / x.len() as f32,
            |x| {
                let sum: i64 = x.iter().map(|&x| i64::from(x)).sum();
                sum.checked_div(x.len() as i64).unwrap_or(0) as i32
            },
        )
    }
}
