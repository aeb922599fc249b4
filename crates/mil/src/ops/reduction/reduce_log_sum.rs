//! `reduce_log_sum`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::reduction::reduce;
use crate::ops::{Default, Kind, Version, optional, required};

op! {
    /// The natural logarithm of the sum. An integer result loses its fraction.
    ///
    /// `axes` (default: all; may be negative, from the end) are the dimensions to reduce; with `keep_dims`
    /// they stay with size 1. The result has the element type of `x`.
    ReduceLogSum,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("x", Kind::T),
            optional("axes", Kind::INT32, Default::Absent).constant(),
            optional("keep_dims", Kind::BOOL, Default::Bool(false)).constant(),
        ],
        types: &[("T", &[Fp16, Fp32, Int32])],
    }],
    reduce,
}
