//! `threshold`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Threshold;

use crate::kernels::elementwise_unary::float_or_int;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Threshold {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let alpha = op.float("alpha")?;
        // An int32 does not always fit a float.
        let int = op.known_tensor("alpha").and_then(|t| t.to_i64()).and_then(|v| v.first().copied());
        let int = int.map_or(i32::MIN, |n| n as i32);
        float_or_int(op, move |x| if x < alpha { alpha } else { x }, move |x| x.max(int))
    }
}
