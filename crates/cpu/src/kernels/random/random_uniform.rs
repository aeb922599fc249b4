//! `random_uniform`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::RandomUniform;

use crate::convert::round_to;
use crate::kernels::random::fill;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for RandomUniform {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (low, high, dtype) = (p.low.value, p.high.value, outputs[0].dtype);
        fill(p.seed, move |draws| {
            let mut x = [low + (high - low) * draws.uniform() as f32];
            round_to(dtype, &mut x);
            // Rounding may reach the end of the interval, which is not part of it.
            if x[0] >= high { low } else { x[0] }
        })
    }
}
