//! `sigmoid`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Sigmoid;

use crate::math;
use crate::simple::{Function, Simple};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Sigmoid {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        Ok(Prepared::unary(p.x.slot, math::sigmoid).simple(Simple::Function(Function::Sigmoid)))
    }
}
