//! `list_length`

use crate::op;
use crate::ops::{InferError, Inferred, Known};
use crate::{DType, Dim, Type};

op! {
    /// The number of elements of a list: an int32 scalar.
    ListLength since Ios13 {
        ls: List,
    }
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let length = match p.ls.ty {
        Type::List(_, Dim::Fixed(n)) => i64::try_from(*n).ok(),
        _ => None,
    };
    let known = length.map(|n| Known::Partial(vec![Some(n)]));
    Ok(vec![Inferred { ty: Type::scalar(DType::Int32), known }])
}
