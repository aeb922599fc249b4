//! `prelu`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Prelu;

use crate::kernel::Operand;
use crate::kernels::activation::channel_constant;
use crate::{Kernel, KernelError, Map, Params, Prepared};

impl Kernel for Prelu {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let alpha = channel_constant(&p.x, p.alpha)?;
        let run = |x: &[&[f32]], out: &mut [f32]| {
            for ((o, &x), &alpha) in out.iter_mut().zip(x[0]).zip(x[1]) {
                *o = if x < 0.0 { alpha * x } else { x };
            }
        };
        let operands = vec![Operand::Slot(p.x.slot), alpha];
        Ok(Prepared::Map(Map { simple: None, run: Box::new(run), operands }))
    }
}
