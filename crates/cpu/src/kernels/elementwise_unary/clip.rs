//! `clip`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Clip;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Clip {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (alpha, beta) = (op.float("alpha")?, op.float("beta")?);
        // Comparisons that NaN fails, so that it stays.
        float(op, move |x| {
            if x < alpha {
                alpha.min(beta)
            } else if x > beta {
                beta
            } else {
                x
            }
        })
    }
}
