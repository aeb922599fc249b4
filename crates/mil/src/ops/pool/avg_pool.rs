//! `avg_pool`

use super::{infer, params};
use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::{Default, Kind, Param, Version, optional};

op! {
    /// The mean of each window.
    ///
    /// `x` is N × C × D…; `kernel_sizes` and `strides` have one element for each spatial dimension, `pad` two.
    /// `pad_type` is as for `conv`; with `ceil_mode`, a last window that reaches beyond the end counts. Padding counts
    /// as zeros unless `exclude_padding_from_average`; what a window covers beyond the padding never counts.
    AvgPool,
    &[Version { opset: Opset::Ios13, params: &all(), types: &[("T", &[Fp16, Fp32])] }],
    infer,
}

const fn all() -> [Param; 7] {
    let [x, kernel, strides, pad_type, pad, ceil] = params();
    let exclude = optional("exclude_padding_from_average", Kind::BOOL, Default::Bool(false)).constant();
    [x, kernel, strides, pad_type, pad, ceil, exclude]
}
