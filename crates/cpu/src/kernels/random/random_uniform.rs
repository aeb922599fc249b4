//! `random_uniform`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::RandomUniform;

use crate::convert::round_to;
use crate::kernels::random::fill;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for RandomUniform {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (low, high, dtype) = (op.float("low")?, op.float("high")?, outputs[0].dtype);
        fill(op, move |draws| {
            let mut x = [low + (high - low) * draws.uniform() as f32];
            round_to(dtype, &mut x);
            // Rounding may reach the end of the interval, which is not part of it.
            if x[0] >= high { low } else { x[0] }
        })
    }
}
