//! `cumsum`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// Running sums of `x` along `axis`, in the type and shape of `x`.
    ///
    /// `exclusive` leaves an element out of its own sum, so that the first sum is 0. `reverse` sums from the end.
    Cumsum,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("x", Kind::T),
            optional("axis", Kind::INT32, Default::Int(0)).constant(),
            optional("exclusive", Kind::BOOL, Default::Bool(false)).constant(),
            optional("reverse", Kind::BOOL, Default::Bool(false)).constant(),
        ],
        types: &[("T", &[Fp16, Fp32, Int32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    op.axis("axis", x.rank())?;
    op.bool("exclusive")?;
    op.bool("reverse")?;
    Ok(vec![x.clone().into()])
}
