//! `maximum`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Maximum;

use crate::kernels::elementwise_binary::float_or_int;
use crate::simple::Simple;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Maximum {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let prepared = float_or_int(
            [p.x, p.y],
            outputs,
            |x, y| if x > y || x.is_nan() { x } else { y },
            |x: i32, y: i32| x.max(y),
        )?;
        Ok(prepared.simple(Simple::Max))
    }
}
