//! `thresholded_relu`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ThresholdedRelu;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for ThresholdedRelu {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let alpha = op.float("alpha")?;
        float(op, move |x| if x < alpha { 0.0 } else { x })
    }
}
