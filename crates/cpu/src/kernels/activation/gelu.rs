//! `gelu`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Gelu;

use crate::kernel::OpViewExt;
use crate::math;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Gelu {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let f = match op.str("mode")? {
            "TANH_APPROXIMATION" => math::gelu_tanh,
            "SIGMOID_APPROXIMATION" => math::gelu_sigmoid,
            _ => math::gelu,
        };
        Ok(Prepared::unary(op.slot("x")?, f))
    }
}
