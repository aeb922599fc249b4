//! `avg_pool`

use super::pool;
use crate::op;

op! {
    /// The mean of each window.
    ///
    /// `x` is N × C × D…; `kernel_sizes` and `strides` have one element for each spatial dimension, `pad` two.
    /// `pad_type` is as for `conv`; with `ceil_mode`, a last window that reaches beyond the end counts. Padding counts
    /// as zeros unless `exclude_padding_from_average`; what a window covers beyond the padding never counts.
    AvgPool since Ios13 {
        x: Operand<T>,
        kernel_sizes: Ints,
        strides: Option<Ints>,
        pad_type: Str,
        pad: Option<Ints>,
        ceil_mode: bool = false,
        exclude_padding_from_average: bool = false,
    }
    where T: [Fp16, Fp32]
    => |p| p.pool().infer()
}

pool!();
