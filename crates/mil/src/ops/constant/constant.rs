//! `const`

use crate::Type;
use crate::op;
use crate::ops::{InferError, Inferred, Known};

op! {
    /// A constant. Its value is the attribute `val`, which may lie in a weight file.
    Const since Ios13 {}
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let value = p.view.constant.ok_or_else(|| InferError("attribute `val` is missing".into()))?;
    let ty: Type = value.ty();
    Ok(vec![Inferred { ty, known: Some(Known::Value(value.clone())) }])
}
