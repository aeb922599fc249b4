//! `greater_equal`

use half::f16;
use milwright_mil::ops::defs::GreaterEqual;
use milwright_mil::{DType, TensorType};

use crate::kernels::elementwise_binary::step;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for GreaterEqual {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        match p.x.dtype {
            DType::Fp16 => step([p.x, p.y], outputs, |x: f16, y: f16| u8::from(x >= y)),
            DType::Fp32 => step([p.x, p.y], outputs, |x: f32, y: f32| u8::from(x >= y)),
            _ => step([p.x, p.y], outputs, |x: i32, y: i32| u8::from(x >= y)),
        }
    }
}
