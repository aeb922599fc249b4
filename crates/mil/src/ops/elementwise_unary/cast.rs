//! `cast`

use crate::DType::{Bool, Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::op;
use crate::ops::{InferError, Inferred, Kind, Known, OpView, Version, required};
use crate::{DType, Opset, TensorType};

op! {
    /// The elements of `x` as another element type, which `dtype` names.
    ///
    /// * Float to integer drops the fraction. Values that do not fit go to the nearest limit; NaN becomes 0.
    /// * Integer to a narrower integer keeps the low bits.
    /// * Anything to bool: whether it is not zero. Bool to a number: 0 or 1.
    /// * To fp16: rounded to nearest, halves to even; overflow goes to infinity.
    ///
    /// `dtype` is `fp16`, `fp32`, `int32` or `bool`; from iOS17 on also `int8`, `uint8`, `int16` or `uint16`.
    Cast,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[required("x", Kind::T), required("dtype", Kind::STRING).constant()],
            types: &[("T", &[Fp16, Fp32, Int32, Bool])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[required("x", Kind::T), required("dtype", Kind::STRING).constant()],
            types: &[("T", &[Fp16, Fp32, Int8, UInt8, Int16, UInt16, Int32, Bool])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    let name = op.str("dtype")?;
    let (_, allowed) = op.version.types[0];
    let dtype = name.parse::<DType>().ok().filter(|d| allowed.contains(d));
    let dtype =
        dtype.ok_or_else(|| InferError(format!("`dtype` is \"{name}\", which is no type to cast to")))?;
    // Shapes that pass from one wide integer to another keep what is known of them.
    let keeps = x.dtype.is_int() && dtype == Int32;
    let known = op.partial("x").filter(|_| keeps).map(Known::Partial);
    Ok(vec![Inferred { ty: TensorType::new(dtype, x.shape.clone()).into(), known }])
}
