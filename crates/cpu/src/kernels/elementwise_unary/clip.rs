//! `clip`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Clip;

use crate::kernels::elementwise_unary::float;
use crate::math::bound;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Clip {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (alpha, beta) = (op.float("alpha")?, op.float("beta")?);
        float(op, move |x| bound(x, alpha, beta))
    }
}
