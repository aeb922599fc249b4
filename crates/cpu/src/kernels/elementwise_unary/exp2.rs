//! `exp2`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Exp2;

use crate::kernels::elementwise_unary::float_or_int;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Exp2 {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        float_or_int(
            p.x,
            |x| x.exp2(),
            |x| match x {
                ..=-1 => 0,
                0..31 => 1 << x,
                _ => i32::MAX,
            },
        )
    }
}
