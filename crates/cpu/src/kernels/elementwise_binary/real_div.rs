//! `real_div`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::RealDiv;

use crate::kernels::elementwise_binary::float_or_int;
use crate::simple::Simple;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for RealDiv {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let prepared = float_or_int(
            [p.x, p.y],
            outputs,
            |x, y| x / y,
            |x: i32, y: i32| if y == 0 { 0 } else { x.wrapping_div(y) },
        )?;
        Ok(prepared.simple(Simple::Div))
    }
}
