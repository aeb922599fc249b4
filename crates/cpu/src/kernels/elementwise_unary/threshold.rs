//! `threshold`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Threshold;

use crate::kernels::elementwise_unary::float_or_int;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Threshold {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let alpha = p.alpha.float()?;
        // `f32` does not hold every int32 exactly.
        let int = p.alpha.value().and_then(|t| t.to_i64()).and_then(|v| v.first().copied());
        let int = int.map_or(i32::MIN, |n| n as i32);
        float_or_int(p.x, move |x| if x < alpha { alpha } else { x }, move |x| x.max(int))
    }
}
