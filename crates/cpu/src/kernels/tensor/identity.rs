//! `identity`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Identity;

use super::moves::alias;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Identity {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        alias(p.x.slot, outputs)
    }
}
