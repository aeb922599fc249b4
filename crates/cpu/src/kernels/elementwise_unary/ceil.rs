//! `ceil`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Ceil;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Ceil {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        float(op, |x| x.ceil())
    }
}
