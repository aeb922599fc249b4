//! `elu`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Elu;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Elu {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let alpha = p.alpha;
        float(p.x, move |x| if x < 0.0 { alpha * x.exp_m1() } else { x })
    }
}
