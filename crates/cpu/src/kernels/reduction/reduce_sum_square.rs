//! `reduce_sum_square`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ReduceSumSquare;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Params, Prepared, math};

impl Kernel for ReduceSumSquare {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(
            p.x,
            p.axes.as_ref(),
            |x| math::sum_of(x, |x| x * x),
            |x| x.iter().fold(0, |a, &b| a.wrapping_add(b.wrapping_mul(b))),
        )
    }
}
