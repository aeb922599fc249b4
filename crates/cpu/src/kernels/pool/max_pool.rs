//! `max_pool`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::MaxPool;

use super::{Fold, prepare};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for MaxPool {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        prepare(&p.pool(), outputs, Max)
    }
}

#[derive(Clone, Copy)]
struct Max;

impl Fold for Max {
    const START: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn step(max: f32, x: f32) -> f32 {
        // NaN wins, as in PyTorch.
        if x > max || x.is_nan() { x } else { max }
    }

    fn finish(self, max: f32, _: usize, _: usize) -> f32 {
        max
    }
}
