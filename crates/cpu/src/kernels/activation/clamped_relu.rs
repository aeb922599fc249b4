//! `clamped_relu`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ClampedRelu;

use crate::kernels::elementwise_unary::float;
use crate::math::bound;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for ClampedRelu {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (alpha, beta) = (op.float("alpha")?, op.float("beta")?);
        float(op, move |x| bound(if x < 0.0 { alpha * x } else { x }, f32::NEG_INFINITY, beta))
    }
}
