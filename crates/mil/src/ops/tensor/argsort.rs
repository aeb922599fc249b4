//! `argsort`

use crate::DType::{Fp16, Fp32, Int32};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Opset, TensorType};

op! {
    /// The indices that sort `x` along `axis`: int32, of the shape of `x`.
    ///
    /// The order is descending unless `ascending`. Equal elements keep their order.
    Argsort,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("x", Kind::T),
            optional("axis", Kind::INT32, Default::Int(-1)).constant(),
            optional("ascending", Kind::BOOL, Default::Bool(false)).constant(),
        ],
        types: &[("T", &[Fp16, Fp32, Int32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    op.axis("axis", x.rank())?;
    op.bool("ascending")?;
    Ok(vec![TensorType::new(Int32, x.shape.clone()).into()])
}
