//! `atanh`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Atanh;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Atanh {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        float(op, |x| 0.5 * ((2.0 * x) / (1.0 - x)).ln_1p())
    }
}
