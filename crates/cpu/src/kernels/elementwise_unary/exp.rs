//! `exp`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Exp;

use crate::math;
use crate::simple::{Function, Simple};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Exp {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        Ok(Prepared::unary(p.x.slot, math::exp).simple(Simple::Function(Function::Exp)))
    }
}
