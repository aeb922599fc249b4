//! `random_bernoulli`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::RandomBernoulli;

use crate::kernels::random::fill;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for RandomBernoulli {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let prob = f64::from(p.prob.value);
        fill(p.seed, move |draws| if draws.uniform() < prob { 1.0 } else { 0.0 })
    }
}
