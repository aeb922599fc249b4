//! `reduce_prod`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ReduceProd;

use crate::kernels::reduction::reduce;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for ReduceProd {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        reduce(p.x, p.axes.as_ref(), |x| x.iter().product(), |x| x.iter().fold(1, |a, &b| a.wrapping_mul(b)))
    }
}
