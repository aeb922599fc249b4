//! `random_normal`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::RandomNormal;

use crate::kernels::random::fill;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for RandomNormal {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (mean, stddev) = (f64::from(p.mean.value), f64::from(p.stddev.value));
        fill(p.seed, move |draws| {
            // The Box-Muller transform; 1 - u is never 0.
            let radius = (-2.0 * (1.0 - draws.uniform()).ln()).sqrt();
            let angle = std::f64::consts::TAU * draws.uniform();
            (mean + stddev * radius * angle.cos()) as f32
        })
    }
}
