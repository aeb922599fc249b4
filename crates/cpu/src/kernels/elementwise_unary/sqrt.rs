//! `sqrt`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Sqrt;

use crate::kernels::elementwise_unary::float;
use crate::simple::Simple;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Sqrt {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        Ok(float(p.x, |x| x.sqrt())?.simple(Simple::Sqrt))
    }
}
