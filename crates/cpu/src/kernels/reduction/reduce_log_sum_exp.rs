//! `reduce_log_sum_exp`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ReduceLogSumExp;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Params, Prepared, math};

impl Kernel for ReduceLogSumExp {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(
            p.x,
            p.axes.as_ref(),
            |x| {
                let max = math::max(x);
                // Subtracting an infinite maximum would give NaN.
                if max.is_infinite() { max } else { math::sum_of(x, |x| math::exp1(x - max)).ln() + max }
            },
            |x| {
                let max = f64::from(x.iter().copied().max().unwrap_or(i32::MIN));
                (x.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln() + max) as i32
            },
        )
    }
}
