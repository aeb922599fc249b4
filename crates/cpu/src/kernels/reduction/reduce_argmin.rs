//! `reduce_argmin`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ReduceArgmin;

use crate::kernels::reduction::arg;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for ReduceArgmin {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        arg(p.x, p.axis, outputs, |x, best| x < best, |x, best| x < best)
    }
}
