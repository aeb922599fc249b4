//! `reduce_argmin`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::reduction::reduce_arg;
use crate::ops::{Default, Kind, Version, optional, required};

op! {
    /// The index of the smallest element along the dimension `axis`: of the first one, if several are equal;
    /// of the first NaN, if there is one.
    ///
    /// With `keep_dims` the dimension stays with size 1. The result is int32; from iOS17 on `output_dtype`
    /// chooses between `int32` and `uint16`.
    ReduceArgmin,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[
                required("x", Kind::T),
                optional("axis", Kind::INT32, Default::Int(-1)).constant(),
                optional("keep_dims", Kind::BOOL, Default::Bool(false)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32, Int32])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                optional("axis", Kind::INT32, Default::Int(-1)).constant(),
                optional("keep_dims", Kind::BOOL, Default::Bool(false)).constant(),
                optional("output_dtype", Kind::STRING, Default::Str("int32")).constant(),
            ],
            types: &[("T", &[Fp16, Fp32, Int32])],
        },
    ],
    reduce_arg,
}
