//! `reduce_l2_norm`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ReduceL2Norm;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Params, Prepared, math};

impl Kernel for ReduceL2Norm {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(
            p.x,
            p.axes.as_ref(),
            |x| math::sum_of(x, |x| x * x).sqrt(),
            |x| x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as i32,
        )
    }
}
