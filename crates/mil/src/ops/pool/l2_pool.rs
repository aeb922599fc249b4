//! `l2_pool`

use super::{infer, params};
use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::Version;

op! {
    /// The square root of the sum of squares of each window; padding counts as zeros. One or two spatial dimensions.
    ///
    /// `x` is N × C × D…; `kernel_sizes` and `strides` have one element for each spatial dimension, `pad` two.
    /// `pad_type` is as for `conv`; with `ceil_mode`, a last window that reaches beyond the end counts.
    L2Pool,
    &[Version { opset: Opset::Ios13, params: &params(), types: &[("T", &[Fp16, Fp32])] }],
    infer,
}
