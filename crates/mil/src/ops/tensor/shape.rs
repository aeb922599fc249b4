//! `shape`

use crate::DType::Int32;
use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred, Known};

op! {
    /// The shape of `x`: a vector of int32.
    Shape since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let sizes = x.shape.iter().map(|d| d.fixed().and_then(|n| i64::try_from(n).ok()));
    let known = Some(Known::Partial(sizes.collect()));
    Ok(vec![Inferred { ty: TensorType::fixed(Int32, &[x.rank()]).into(), known }])
}
