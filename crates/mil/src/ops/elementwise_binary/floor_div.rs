//! `floor_div`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_binary::arithmetic;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// x / y, rounded toward negative infinity. An integer divided by 0 is 0.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. The result has the element type of both.
    FloorDiv,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T), required("y", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Int32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    arithmetic(op, floor_div)
}

fn floor_div(x: i64, y: i64) -> Option<i64> {
    let quotient = x.checked_div(y)?;
    Some(if x % y != 0 && (x < 0) != (y < 0) { quotient - 1 } else { quotient })
}
