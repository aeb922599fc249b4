//! `sign`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Sign;

use crate::kernels::elementwise_unary::float_or_int;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Sign {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        float_or_int(
            op,
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
