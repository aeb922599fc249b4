//! `make_list`

use crate::DType::{Bool, Fp16, Fp32, Int32, String};
use crate::op;
use crate::ops::{ArgView, Default, InferError, Inferred, Kind, OpView, Version, dim, many, optional};
use crate::{DType, Dim, Opset, TensorType, Type};

op! {
    /// A list of tensors of one element type and shape, which are zeros.
    ///
    /// * `init_length`: how many elements the list has at first.
    /// * `dynamic_length`: whether it may grow; if not, `init_length` is its length.
    /// * `elem_shape`: the sizes of an element's dimensions, one scalar each; a string stands for a size that
    ///   is known only when the function runs.
    /// * `dtype`: `bool`, `fp16`, `fp32` or `int32`.
    MakeList,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            optional("init_length", Kind::INT32, Default::Int(1)),
            optional("dynamic_length", Kind::BOOL, Default::Bool(true)).constant(),
            many("elem_shape", Kind::Of(&[Int32, String])).constant(),
            optional("dtype", Kind::STRING, Default::Str("fp32")).constant(),
        ],
        types: &[],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let name = op.str("dtype")?;
    let dtype = name.parse::<DType>().ok().filter(|d| [Bool, Fp16, Fp32, Int32].contains(d));
    let dtype = dtype.ok_or_else(|| InferError(format!("`dtype` is \"{name}\", which no list can hold")))?;
    let size = |a: &ArgView<'_>| match a.partial() {
        // A string names a size that is not known yet.
        None => Dim::Unknown,
        Some(n) => dim(n.first().copied().flatten()),
    };
    let element = TensorType::new(dtype, op.args("elem_shape").iter().map(size).collect::<Vec<_>>());
    let length = match op.bool("dynamic_length")? {
        true => Dim::Unknown,
        false => op.int("init_length").map_or(Dim::Unknown, |n| dim(Some(n))),
    };
    Ok(vec![Type::List(Box::new(element.into()), length).into()])
}
