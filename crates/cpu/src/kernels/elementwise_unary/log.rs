//! `log`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Log;

use crate::kernels::elementwise_unary::{epsilon, float};
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Log {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let epsilon = epsilon(op)?;
        float(op, move |x| (x + epsilon).ln())
    }
}
