//! `abs`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Abs;

use crate::kernels::elementwise_unary::float_or_int;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Abs {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        float_or_int(op, |x| x.abs(), |x| x.wrapping_abs())
    }
}
