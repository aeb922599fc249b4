//! `rsqrt`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Rsqrt;

use crate::kernels::elementwise_unary::{epsilon, float};
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Rsqrt {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let epsilon = epsilon(op)?;
        float(op, move |x| 1.0 / (x + epsilon).sqrt())
    }
}
