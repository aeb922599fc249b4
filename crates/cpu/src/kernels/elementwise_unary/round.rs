//! `round`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Round;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Round {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        float(p.x, |x| x.round_ties_even())
    }
}
