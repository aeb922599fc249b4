//! `pow`

use milwright_mil::ops::defs::Pow;
use milwright_mil::{DType, TensorType};

use crate::kernels::elementwise_binary::float_or_int;
use crate::kernels::elementwise_unary;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Pow {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        // Most models only use squares.
        let constant = p.y.value().filter(|t| t.dtype() != DType::Int32 && t.shape().is_empty());
        if constant.is_some_and(|t| t.to_f64() == [2.0]) {
            return elementwise_unary::float(p.x, |x| x * x);
        }
        float_or_int([p.x, p.y], outputs, f32::powf, int)
    }
}

fn int(x: i32, y: i32) -> i32 {
    match (u32::try_from(y), x) {
        (Ok(y), _) => x.wrapping_pow(y),
        // 1 / xⁿ truncates to 0, except for these.
        (Err(_), 1) => 1,
        (Err(_), -1) if y % 2 == 0 => 1,
        (Err(_), -1) => -1,
        (Err(_), _) => 0,
    }
}
