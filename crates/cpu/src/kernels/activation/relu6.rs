//! `relu6`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Relu6;

use crate::kernels::elementwise_unary::float;
use crate::simple::Simple;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Relu6 {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        // `clamp` keeps NaN.
        Ok(float(p.x, |x| x.clamp(0.0, 6.0))?.simple(Simple::Clamp(0.0, 6.0)))
    }
}
