//! `log`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Log;

use crate::kernels::elementwise_unary::{epsilon, float};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Log {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let epsilon = epsilon(p.x, p.epsilon);
        float(p.x, move |x| (x + epsilon).ln())
    }
}
