//! `reduce_l1_norm`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ReduceL1Norm;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Params, Prepared, math};

impl Kernel for ReduceL1Norm {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(
            p.x,
            p.axes.as_ref(),
            |x| math::sum_of(x, f32::abs),
            |x| x.iter().fold(0, |a, &b| a.wrapping_add(b.wrapping_abs())),
        )
    }
}
