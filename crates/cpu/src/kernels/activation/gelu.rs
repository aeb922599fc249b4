//! `gelu`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Gelu;

use crate::math;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Gelu {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let f = match p.mode {
            "TANH_APPROXIMATION" => math::gelu_tanh,
            "SIGMOID_APPROXIMATION" => math::gelu_sigmoid,
            _ => math::gelu,
        };
        Ok(Prepared::unary(p.x.slot, f))
    }
}
