//! `squeeze`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Squeeze;

use super::moves::alias;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Squeeze {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        alias(p.x.slot, outputs)
    }
}
