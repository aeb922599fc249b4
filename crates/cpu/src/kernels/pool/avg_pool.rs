//! `avg_pool`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::AvgPool;

use super::{Fold, prepare};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for AvgPool {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        prepare(&p.pool(), outputs, Mean { exclude_padding: p.exclude_padding_from_average })
    }
}

#[derive(Clone, Copy)]
struct Mean {
    exclude_padding: bool,
}

impl Fold for Mean {
    const START: f32 = 0.0;

    #[inline(always)]
    fn step(sum: f32, x: f32) -> f32 {
        sum + x
    }

    fn finish(self, sum: f32, seen: usize, padded: usize) -> f32 {
        sum / if self.exclude_padding { seen } else { padded } as f32
    }
}
