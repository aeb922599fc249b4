//! `equal`

use half::f16;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Equal;
use milwright_mil::{DType, TensorType};

use crate::kernel::OpViewExt;
use crate::kernels::elementwise_binary::step;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Equal {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        match op.dtype("x")? {
            DType::Fp16 => step(op, outputs, |x: f16, y: f16| u8::from(x == y)),
            DType::Fp32 => step(op, outputs, |x: f32, y: f32| u8::from(x == y)),
            _ => step(op, outputs, |x: i32, y: i32| u8::from(x == y)),
        }
    }
}
