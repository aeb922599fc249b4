//! `shape`

use crate::DType::{Bool, Fp16, Fp32, Int32};
use crate::op;
use crate::ops::{InferError, Inferred, Kind, Known, OpView, Version, required};
use crate::{Opset, TensorType};

op! {
    /// The shape of `x`: a vector of int32.
    Shape,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Int32, Bool])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    let sizes = x.shape.iter().map(|d| d.fixed().and_then(|n| i64::try_from(n).ok()));
    let known = Some(Known::Partial(sizes.collect()));
    Ok(vec![Inferred { ty: TensorType::fixed(Int32, &[x.rank()]).into(), known }])
}
