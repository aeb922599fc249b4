//! `max_pool`

use super::{infer, params};
use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::Version;

op! {
    /// The largest element of each window. Padding never wins.
    ///
    /// `x` is N × C × D…; `kernel_sizes` and `strides` have one element for each spatial dimension, `pad` two.
    /// `pad_type` is as for `conv`; with `ceil_mode`, a last window that reaches beyond the end counts.
    MaxPool,
    &[Version { opset: Opset::Ios13, params: &params(), types: &[("T", &[Fp16, Fp32])] }],
    infer,
}
