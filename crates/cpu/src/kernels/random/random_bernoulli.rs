//! `random_bernoulli`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::RandomBernoulli;

use crate::kernels::random::fill;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for RandomBernoulli {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let prob = f64::from(op.float("prob")?);
        fill(op, move |draws| if draws.uniform() < prob { 1.0 } else { 0.0 })
    }
}
