//! `scaled_tanh`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ScaledTanh;

use crate::kernels::elementwise_unary::float;
use crate::{Kernel, KernelError, Params, Prepared, math};

impl Kernel for ScaledTanh {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (alpha, beta) = (p.alpha, p.beta);
        float(p.x, move |x| alpha * math::tanh1(beta * x))
    }
}
