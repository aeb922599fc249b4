//! `erf`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Erf;

use crate::math;
use crate::simple::{Function, Simple};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Erf {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        Ok(Prepared::unary(p.x.slot, math::erf).simple(Simple::Function(Function::Erf)))
    }
}
