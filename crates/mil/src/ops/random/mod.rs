//! Random tensors.

pub mod random_bernoulli;
pub mod random_categorical;
pub mod random_normal;
pub mod random_uniform;

use super::{InferError, Inferred, Number, Operand, dim};
use crate::{DType, TensorType};

/// Infers the type of ops that fill the shape `shape`. The element type is that of their other parameters.
pub(super) fn tensor_of(shape: Operand<'_>, parameters: &[Number<'_>]) -> Result<Vec<Inferred>, InferError> {
    let sizes = shape.partial().ok_or_else(|| {
        InferError("input `shape` must be a vector of a length that is known before the run".into())
    })?;
    if sizes.iter().flatten().any(|&n| n < 0) {
        return Err(InferError("input `shape` has a negative size".into()));
    }
    let dtype = parameters.iter().find_map(|p| p.bound).map_or(DType::Fp32, |t| t.dtype);
    Ok(vec![TensorType::new(dtype, sizes.into_iter().map(dim).collect::<Vec<_>>()).into()])
}
