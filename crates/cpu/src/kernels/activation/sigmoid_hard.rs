//! `sigmoid_hard`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::SigmoidHard;

use crate::kernels::elementwise_unary::float;
use crate::simple::Simple;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for SigmoidHard {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (alpha, beta) = (p.alpha, p.beta);
        let prepared = float(p.x, move |x| (alpha * x + beta).clamp(0.0, 1.0))?;
        Ok(prepared.simple(Simple::SigmoidHard(alpha, beta)))
    }
}
