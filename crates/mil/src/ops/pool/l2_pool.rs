//! `l2_pool`

use super::pool;
use crate::op;

op! {
    /// The square root of the sum of squares of each window; padding counts as zeros. One or two spatial dimensions.
    ///
    /// `x` is N × C × D…; `kernel_sizes` and `strides` have one element for each spatial dimension, `pad` two.
    /// `pad_type` is as for `conv`; with `ceil_mode`, a last window that reaches beyond the end counts.
    L2Pool since Ios13 {
        x: Operand<T>,
        kernel_sizes: Ints,
        strides: Option<Ints>,
        pad_type: Str,
        pad: Option<Ints>,
        ceil_mode: bool = false,
    }
    where T: [Fp16, Fp32]
    => |p| p.pool().infer()
}

pool!();
