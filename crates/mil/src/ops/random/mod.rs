//! Random tensors.

pub mod random_bernoulli;
pub mod random_categorical;
pub mod random_normal;
pub mod random_uniform;

use super::{InferError, Inferred, OpView, dim};
use crate::{DType, TensorType};

/// Type inference of ops that fill the shape `shape`, in the element type of their other parameters.
pub(super) fn tensor_of(op: &OpView<'_>, parameters: &[&str]) -> Result<Vec<Inferred>, InferError> {
    let sizes = op.partial("shape").ok_or_else(|| {
        InferError("input `shape` must be a vector of a length that is known before the run".into())
    })?;
    if sizes.iter().flatten().any(|&n| n < 0) {
        return Err(InferError("input `shape` has a negative size".into()));
    }
    for name in parameters {
        op.float(name)?;
    }
    let bound = parameters.iter().find(|p| op.has(p));
    let dtype = bound.map_or(Ok(DType::Fp32), |p| op.tensor(p).map(|t| t.dtype))?;
    Ok(vec![TensorType::new(dtype, sizes.into_iter().map(dim).collect::<Vec<_>>()).into()])
}
