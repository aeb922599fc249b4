//! `softplus`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Softplus;

use crate::kernel::OpViewExt;
use crate::kernels::activation::softplus;
use crate::math;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Softplus {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        Ok(Prepared::unary(op.slot("x")?, |x, out| math::each(x, out, softplus)))
    }
}
