//! `silu`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Silu;

use crate::math;
use crate::simple::{Function, Simple};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Silu {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        Ok(Prepared::unary(p.x.slot, math::silu).simple(Simple::Function(Function::Silu)))
    }
}
