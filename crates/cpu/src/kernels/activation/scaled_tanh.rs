//! `scaled_tanh`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ScaledTanh;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Prepared, math};

impl Kernel for ScaledTanh {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (alpha, beta) = (op.float("alpha")?, op.float("beta")?);
        float(op, move |x| alpha * math::tanh1(beta * x))
    }
}
