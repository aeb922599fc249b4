//! `softplus_parametric`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::SoftplusParametric;

use crate::kernel::Operand;
use crate::kernels::activation::{channel_constant, softplus};
use crate::{Kernel, KernelError, Map, Params, Prepared};

impl Kernel for SoftplusParametric {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (alpha, beta) = (channel_constant(&p.x, p.alpha)?, channel_constant(&p.x, p.beta)?);
        let run = |x: &[&[f32]], out: &mut [f32]| {
            for (((o, &x), &alpha), &beta) in out.iter_mut().zip(x[0]).zip(x[1]).zip(x[2]) {
                *o = alpha * softplus(beta * x);
            }
        };
        let operands = vec![Operand::Slot(p.x.slot), alpha, beta];
        Ok(Prepared::Map(Map { simple: None, run: Box::new(run), operands }))
    }
}
