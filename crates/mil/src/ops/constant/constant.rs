//! `const`

use crate::op;
use crate::ops::{InferError, Inferred, Known, OpView, Version};
use crate::{Opset, Type};

op! {
    /// A constant. Its value is the attribute `val`, which may lie in a weight file.
    Const,
    &[Version { opset: Opset::Ios13, params: &[], types: &[] }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let value = op.op.attributes.get("val").ok_or_else(|| InferError("attribute `val` is missing".into()))?;
    let ty: Type = value.ty();
    Ok(vec![Inferred { ty, known: Some(Known::Value(value.clone())) }])
}
