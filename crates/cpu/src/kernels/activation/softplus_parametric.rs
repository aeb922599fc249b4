//! `softplus_parametric`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::SoftplusParametric;

use crate::kernel::{OpViewExt, Operand};
use crate::kernels::activation::{channel_constant, softplus};
use crate::{Kernel, KernelError, Map, Prepared};

impl Kernel for SoftplusParametric {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (alpha, beta) = (channel_constant(op, "alpha")?, channel_constant(op, "beta")?);
        let run = |x: &[&[f32]], out: &mut [f32]| {
            for (((o, &x), &alpha), &beta) in out.iter_mut().zip(x[0]).zip(x[1]).zip(x[2]) {
                *o = alpha * softplus(beta * x);
            }
        };
        let operands = vec![Operand::Slot(op.slot("x")?), alpha, beta];
        Ok(Prepared::Map(Map { run: Box::new(run), operands }))
    }
}
