//! `abs`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Abs;

use crate::kernels::elementwise_unary::float_or_int;
use crate::simple::Simple;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Abs {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        Ok(float_or_int(p.x, |x| x.abs(), |x| x.wrapping_abs())?.simple(Simple::Abs))
    }
}
