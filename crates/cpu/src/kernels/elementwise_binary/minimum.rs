//! `minimum`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Minimum;

use crate::kernels::elementwise_binary::float_or_int;
use crate::simple::Simple;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Minimum {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let prepared = float_or_int(
            [p.x, p.y],
            outputs,
            |x, y| if x < y || x.is_nan() { x } else { y },
            |x: i32, y: i32| x.min(y),
        )?;
        Ok(prepared.simple(Simple::Min))
    }
}
