//! `mod`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Mod;

use crate::kernels::elementwise_binary::float_or_int;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Mod {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        float_or_int([p.x, p.y], outputs, float, int)
    }
}

fn float(x: f32, y: f32) -> f32 {
    let rest = x % y;
    if rest == 0.0 {
        rest.copysign(y)
    } else if (rest < 0.0) != (y < 0.0) {
        rest + y
    } else {
        rest
    }
}

fn int(x: i32, y: i32) -> i32 {
    if y == 0 {
        return 0;
    }
    let rest = x.wrapping_rem(y);
    if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest }
}
