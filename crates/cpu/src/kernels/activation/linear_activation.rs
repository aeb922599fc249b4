//! `linear_activation`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::LinearActivation;

use crate::kernels::elementwise_unary::float;
use crate::simple::Simple;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for LinearActivation {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (alpha, beta) = (p.alpha, p.beta);
        Ok(float(p.x, move |x| alpha * x + beta)?.simple(Simple::Affine(alpha, beta)))
    }
}
