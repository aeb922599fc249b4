//! `reduce_argmin`

use crate::op;
use crate::ops::reduction::reduce_arg;

op! {
    /// The index of the smallest element along the dimension `axis`: of the first one, if several are equal;
    /// of the first NaN, if there is one.
    ///
    /// With `keep_dims` the dimension stays with size 1. The result is int32; from iOS17 on `output_dtype`
    /// chooses between `int32` and `uint16`.
    ReduceArgmin since Ios13, Ios17 {
        x: Operand<T>,
        axis: Axis = -1,
        keep_dims: bool = false,
        output_dtype: Str since Ios17 = "int32",
    }
    where T: [Fp16, Fp32, Int32]
    => |p| reduce_arg(p.x, p.axis, p.keep_dims, p.output_dtype)
}
