//! Activation functions.

pub mod clamped_relu;
pub mod elu;
pub mod gelu;
pub mod leaky_relu;
pub mod linear_activation;
pub mod prelu;
pub mod relu;
pub mod relu6;
pub mod scaled_tanh;
pub mod sigmoid;
pub mod sigmoid_hard;
pub mod silu;
pub mod softmax;
pub mod softplus;
pub mod softplus_parametric;
pub mod softsign;
pub mod thresholded_relu;

use super::{InferError, Operand};
use crate::TensorType;

/// Checks that `x` is [batch, channels, …] of rank `min_rank` or more, and that a parameter is a vector of one element
/// per channel.
pub(super) fn channels(x: &TensorType, vector: Operand<'_>, min_rank: usize) -> Result<(), InferError> {
    if x.rank() < min_rank {
        return Err(InferError(format!("input `x` has rank {}, at least {min_rank} is needed", x.rank())));
    }
    match vector.shape[..] {
        [n] if n.agrees(x.shape[1]) => Ok(()),
        _ => Err(InferError(format!(
            "input `{}` is {vector}, but `x` has {} channels",
            vector.name, x.shape[1]
        ))),
    }
}
