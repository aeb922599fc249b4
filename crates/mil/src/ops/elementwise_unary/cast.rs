//! `cast`

use crate::DType::Int32;
use crate::op;
use crate::ops::{InferError, Inferred, Known};
use crate::{DType, TensorType};

op! {
    /// The elements of `x` as another element type, which `dtype` names.
    ///
    /// * Float to integer drops the fraction. Values that do not fit go to the nearest limit; NaN becomes 0.
    /// * Integer to a narrower integer keeps the low bits.
    /// * Anything to bool: whether it is not zero. Bool to a number: 0 or 1.
    /// * To fp16: rounded to nearest, halves to even; overflow goes to infinity.
    ///
    /// `dtype` is `fp16`, `fp32`, `int32` or `bool`; from iOS17 on also `int8`, `uint8`, `int16` or `uint16`.
    Cast since Ios13, Ios17 {
        x: Operand<T>,
        dtype: Str,
    }
    where T: [Fp16, Fp32, Int32, Bool] since Ios17 [Int8, Int16, UInt8, UInt16]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let name = p.dtype;
    let dtype = name.parse::<DType>().ok().filter(|d| p.view.version.allows("T", *d));
    let dtype =
        dtype.ok_or_else(|| InferError(format!("`dtype` is \"{name}\", which is no type to cast to")))?;
    // Known elements of shapes stay known if they are cast from one wide integer type to another.
    let keeps = x.dtype.is_int() && dtype == Int32;
    let known = p.x.partial().filter(|_| keeps).map(Known::Partial);
    Ok(vec![Inferred { ty: TensorType::new(dtype, x.shape.clone()).into(), known }])
}
