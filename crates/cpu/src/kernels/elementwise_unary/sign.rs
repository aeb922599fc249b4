//! `sign`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Sign;

use crate::kernels::elementwise_unary::float_or_int;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Sign {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        float_or_int(
            p.x,
            |x| {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    x
                }
            },
            |x| x.signum(),
        )
    }
}
