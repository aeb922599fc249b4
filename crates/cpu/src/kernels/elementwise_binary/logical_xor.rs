//! `logical_xor`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::LogicalXor;

use crate::kernels::elementwise_binary::step;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for LogicalXor {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        step(op, outputs, |x: u8, y: u8| x ^ y)
    }
}
