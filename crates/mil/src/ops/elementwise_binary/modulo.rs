//! `mod`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::elementwise_binary::arithmetic;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// The remainder of `floor_div`: x - y · ⌊x / y⌋, with the sign of `y`. An integer modulo 0 is 0.
    ///
    /// The shapes of `x` and `y` are broadcast as in NumPy. The result has the element type of both.
    Mod,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T), required("y", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Int32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    arithmetic(op, modulo)
}

fn modulo(x: i64, y: i64) -> Option<i64> {
    let rest = x.checked_rem(y)?;
    Some(if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest })
}
