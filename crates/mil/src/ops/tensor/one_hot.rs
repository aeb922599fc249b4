//! `one_hot`

use crate::DType::{Bool, Fp16, Fp32, Int32};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, dim, optional, required};
use crate::{Opset, TensorType};

op! {
    /// Makes a vector of each index: `on_value` at the index, `off_value` elsewhere.
    ///
    /// The vectors have `one_hot_vector_size` elements and lie along a new dimension `axis`. An index out of range
    /// makes a vector without `on_value`. The result has the type of `on_value` and `off_value`: int32 if neither is
    /// given.
    OneHot,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("indices", Kind::INT32),
            required("one_hot_vector_size", Kind::INT32),
            optional("axis", Kind::INT32, Default::Int(-1)).constant(),
            optional("on_value", Kind::T, Default::Int(1)).constant(),
            optional("off_value", Kind::T, Default::Int(0)).constant(),
        ],
        types: &[("T", &[Fp16, Fp32, Int32, Bool])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let indices = op.tensor("indices")?;
    let dtype = match ["on_value", "off_value"].into_iter().find(|name| op.has(name)) {
        Some(name) => op.tensor(name)?.dtype,
        None => Int32,
    };
    let size = match op.partial("one_hot_vector_size").as_deref() {
        Some(&[size]) => size,
        _ => return Err(InferError("input `one_hot_vector_size` must be one integer".into())),
    };
    require!(size.is_none_or(|n| n >= 0), "input `one_hot_vector_size` is negative");
    let mut shape = indices.shape.clone();
    shape.insert(op.axis("axis", indices.rank() + 1)?, dim(size));
    Ok(vec![TensorType::new(dtype, shape).into()])
}
