//! `square`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Square;

use crate::kernels::elementwise_unary::float_or_int;
use crate::simple::Simple;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Square {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        Ok(float_or_int(p.x, |x| x * x, |x| x.wrapping_mul(x))?.simple(Simple::Square))
    }
}
