//! `cosh`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Cosh;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Cosh {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        float(p.x, |x| x.cosh())
    }
}
