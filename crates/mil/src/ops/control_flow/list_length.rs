//! `list_length`

use crate::op;
use crate::ops::{InferError, Inferred, Kind, Known, OpView, Version, required};
use crate::{DType, Dim, Opset, Type};

op! {
    /// The number of elements of a list: an int32 scalar.
    ListLength,
    &[Version { opset: Opset::Ios13, params: &[required("ls", Kind::List)], types: &[] }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let length = match op.ty("ls")? {
        Type::List(_, Dim::Fixed(n)) => i64::try_from(*n).ok(),
        _ => None,
    };
    let known = length.map(|n| Known::Partial(vec![Some(n)]));
    Ok(vec![Inferred { ty: Type::scalar(DType::Int32), known }])
}
