//! `logical_xor`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::LogicalXor;

use crate::kernels::elementwise_binary::step;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for LogicalXor {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        step([p.x, p.y], outputs, |x: u8, y: u8| x ^ y)
    }
}
