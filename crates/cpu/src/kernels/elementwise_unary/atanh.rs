//! `atanh`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Atanh;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Atanh {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        float(p.x, |x| 0.5 * ((2.0 * x) / (1.0 - x)).ln_1p())
    }
}
