//! `floor_div`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::FloorDiv;

use crate::kernels::elementwise_binary::float_or_int;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for FloorDiv {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        float_or_int([p.x, p.y], outputs, float, int)
    }
}

/// Computes the quotient that belongs to the remainder with the sign of `y`. It can differ from the floor of `x / y`,
/// because the division rounds before the floor is taken.
fn float(x: f32, y: f32) -> f32 {
    if y == 0.0 {
        return x / y;
    }
    let rest = x % y;
    let quotient = (x - rest) / y;
    let quotient = if rest != 0.0 && (rest < 0.0) != (y < 0.0) { quotient - 1.0 } else { quotient };
    // The quotient is whole up to a rounding error of less than a half.
    if quotient.is_finite() { quotient.round() } else { quotient }
}

fn int(x: i32, y: i32) -> i32 {
    if y == 0 {
        return 0;
    }
    let quotient = x.wrapping_div(y);
    if x.wrapping_rem(y) != 0 && (x < 0) != (y < 0) { quotient - 1 } else { quotient }
}
