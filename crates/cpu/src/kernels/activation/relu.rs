//! `relu`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Relu;

use crate::kernels::elementwise_unary::float;
use crate::simple::Simple;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Relu {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        Ok(float(p.x, |x| if x < 0.0 { 0.0 } else { x })?.simple(Simple::Relu))
    }
}
