//! `gelu`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Gelu;

use crate::math;
use crate::simple::{Function, Simple};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Gelu {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let slot = p.x.slot;
        let (prepared, function) = match p.mode {
            "TANH_APPROXIMATION" => (Prepared::unary(slot, math::gelu_tanh), Function::GeluTanh),
            "SIGMOID_APPROXIMATION" => (Prepared::unary(slot, math::gelu_sigmoid), Function::GeluSigmoid),
            _ => (Prepared::unary(slot, math::gelu), Function::Gelu),
        };
        Ok(prepared.simple(Simple::Function(function)))
    }
}
