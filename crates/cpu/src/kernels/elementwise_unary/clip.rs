//! `clip`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Clip;

use crate::kernels::elementwise_unary::float;
use crate::math::bound;
use crate::simple::Simple;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Clip {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (alpha, beta) = (p.alpha, p.beta);
        Ok(float(p.x, move |x| bound(x, alpha, beta))?.simple(Simple::Bound(alpha, beta)))
    }
}
