//! `rsqrt`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Rsqrt;

use crate::kernels::elementwise_unary::{epsilon, float};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Rsqrt {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let epsilon = epsilon(p.x, p.epsilon);
        float(p.x, move |x| 1.0 / (x + epsilon).sqrt())
    }
}
