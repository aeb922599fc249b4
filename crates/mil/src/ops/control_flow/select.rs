//! `select`

use crate::DType::{Bool, Fp16, Fp32, Int32};
use crate::op;
use crate::ops::elementwise_binary::broadcast_shapes;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};
use crate::{Opset, TensorType};

op! {
    /// `a` where `cond` is true, `b` elsewhere.
    ///
    /// The shapes of all three are broadcast as in NumPy; `cond` may be a scalar. The result has the element
    /// type of `a` and `b`.
    Select,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("cond", Kind::BOOL), required("a", Kind::T), required("b", Kind::T)],
        types: &[("T", &[Fp16, Fp32, Bool, Int32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (cond, a, b) = (op.tensor("cond")?, op.tensor("a")?, op.tensor("b")?);
    let shape = broadcast_shapes(&broadcast_shapes(&a.shape, &b.shape)?, &cond.shape)?;
    Ok(vec![TensorType::new(a.dtype, shape).into()])
}
