//! `clamped_relu`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ClampedRelu;

use crate::kernels::elementwise_unary::float;
use crate::math::bound;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for ClampedRelu {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (alpha, beta) = (p.alpha, p.beta);
        float(p.x, move |x| bound(if x < 0.0 { alpha * x } else { x }, f32::NEG_INFINITY, beta))
    }
}
