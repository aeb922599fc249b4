//! `reduce_l2_norm`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ReduceL2Norm;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Prepared, math};

impl Kernel for ReduceL2Norm {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(
            op,
            |x| math::sum_of(x, |x| x * x).sqrt(),
            |x| x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as i32,
        )
    }
}
