//! `sigmoid_hard`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::SigmoidHard;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for SigmoidHard {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (alpha, beta) = (op.float("alpha")?, op.float("beta")?);
        float(op, move |x| (alpha * x + beta).clamp(0.0, 1.0))
    }
}
