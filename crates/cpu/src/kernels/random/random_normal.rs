//! `random_normal`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::RandomNormal;

use crate::kernels::random::fill;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for RandomNormal {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (mean, stddev) = (f64::from(op.float("mean")?), f64::from(op.float("stddev")?));
        fill(op, move |draws| {
            // The Box-Muller transform; 1 - u is never 0.
            let radius = (-2.0 * (1.0 - draws.uniform()).ln()).sqrt();
            let angle = std::f64::consts::TAU * draws.uniform();
            (mean + stddev * radius * angle.cos()) as f32
        })
    }
}
