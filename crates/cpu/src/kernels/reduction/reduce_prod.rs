//! `reduce_prod`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ReduceProd;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for ReduceProd {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(op, |x| x.iter().product(), |x| x.iter().fold(1, |a, &b| a.wrapping_mul(b)))
    }
}
