//! `reduce_mean`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ReduceMean;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Prepared, math};

impl Kernel for ReduceMean {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(
            op,
            |x| math::sum(x) / x.len() as f32,
            |x| {
                let sum: i64 = x.iter().map(|&x| i64::from(x)).sum();
                sum.checked_div(x.len() as i64).unwrap_or(0) as i32
            },
        )
    }
}
