//! `elu`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Elu;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Elu {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let alpha = op.float("alpha")?;
        float(op, move |x| if x < 0.0 { alpha * x.exp_m1() } else { x })
    }
}
