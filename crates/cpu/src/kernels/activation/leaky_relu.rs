//! `leaky_relu`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::LeakyRelu;

use crate::kernels::elementwise_unary::float;
use crate::simple::Simple;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for LeakyRelu {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let alpha = p.alpha;
        Ok(float(p.x, move |x| if x < 0.0 { alpha * x } else { x })?.simple(Simple::Leaky(alpha)))
    }
}
