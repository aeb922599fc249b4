//! `reduce_argmax`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ReduceArgmax;

use crate::kernels::reduction::arg;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for ReduceArgmax {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        arg(op, outputs, |x, best| x > best, |x, best| x > best)
    }
}
