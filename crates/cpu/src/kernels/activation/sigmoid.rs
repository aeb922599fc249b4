//! `sigmoid`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Sigmoid;

use crate::kernel::OpViewExt;
use crate::math;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Sigmoid {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        Ok(Prepared::unary(op.slot("x")?, math::sigmoid))
    }
}
