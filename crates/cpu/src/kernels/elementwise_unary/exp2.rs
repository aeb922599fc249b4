//! `exp2`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Exp2;

use crate::kernels::elementwise_unary::float_or_int;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Exp2 {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        float_or_int(
            op,
            |x| x.exp2(),
            |x| match x {
                ..=-1 => 0,
                0..31 => 1 << x,
                _ => i32::MAX,
            },
        )
    }
}
