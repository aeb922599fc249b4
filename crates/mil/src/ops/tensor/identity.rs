//! `identity`

use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Its input, under another name.
    Identity since Ios13 {
        x: Any,
    }
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let ty = p.x.ty.clone();
    let known = p.x.known.cloned();
    Ok(vec![Inferred { ty, known }])
}
