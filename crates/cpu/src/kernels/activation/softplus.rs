//! `softplus`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Softplus;

use crate::kernels::activation::softplus;
use crate::math;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Softplus {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        Ok(Prepared::unary(p.x.slot, |x, out| math::each(x, out, softplus)))
    }
}
