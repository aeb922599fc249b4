//! `l2_pool`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::L2Pool;

use super::{Fold, prepare};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for L2Pool {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        prepare(&p.pool(), outputs, Norm)
    }
}

#[derive(Clone, Copy)]
struct Norm;

impl Fold for Norm {
    const START: f32 = 0.0;

    #[inline(always)]
    fn step(sum: f32, x: f32) -> f32 {
        sum + x * x
    }

    fn finish(self, sum: f32, _: usize, _: usize) -> f32 {
        sum.sqrt()
    }
}
