//! `reshape_like`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ReshapeLike;

use super::moves::alias;
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for ReshapeLike {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        alias(op.slot("x")?, outputs)
    }
}
