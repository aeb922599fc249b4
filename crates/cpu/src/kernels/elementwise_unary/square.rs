//! `square`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Square;

use crate::kernels::elementwise_unary::float_or_int;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Square {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        float_or_int(op, |x| x * x, |x| x.wrapping_mul(x))
    }
}
