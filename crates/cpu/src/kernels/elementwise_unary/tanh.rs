//! `tanh`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Tanh;

use crate::math;
use crate::simple::{Function, Simple};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Tanh {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        Ok(Prepared::unary(p.x.slot, math::tanh).simple(Simple::Function(Function::Tanh)))
    }
}
