//! `flatten2d`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Flatten2d;

use super::moves::alias;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Flatten2d {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        alias(p.x.slot, outputs)
    }
}
