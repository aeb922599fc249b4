//! `identity`

use crate::Opset;
use crate::op;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// Its input, under another name.
    Identity,
    &[Version { opset: Opset::Ios13, params: &[required("x", Kind::Any)], types: &[] }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let ty = op.ty("x")?.clone();
    let known = op.args("x").first().and_then(|x| x.known.as_deref().cloned());
    Ok(vec![Inferred { ty, known }])
}
