//! `sqrt`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Sqrt;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Sqrt {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        float(op, |x| x.sqrt())
    }
}
