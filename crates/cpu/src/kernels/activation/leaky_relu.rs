//! `leaky_relu`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::LeakyRelu;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for LeakyRelu {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let alpha = op.float("alpha")?;
        float(op, move |x| if x < 0.0 { alpha * x } else { x })
    }
}
