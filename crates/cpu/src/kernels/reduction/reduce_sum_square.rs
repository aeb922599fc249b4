//! `reduce_sum_square`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ReduceSumSquare;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Prepared, math};

impl Kernel for ReduceSumSquare {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(
            op,
            |x| math::sum_of(x, |x| x * x),
            |x| x.iter().fold(0, |a, &b| a.wrapping_add(b.wrapping_mul(b))),
        )
    }
}
