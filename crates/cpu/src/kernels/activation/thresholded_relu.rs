//! `thresholded_relu`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ThresholdedRelu;

use crate::kernels::elementwise_unary::float;
use crate::simple::Simple;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for ThresholdedRelu {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let alpha = p.alpha;
        Ok(float(p.x, move |x| if x < alpha { 0.0 } else { x })?.simple(Simple::Thresholded(alpha)))
    }
}
