//! Affine quantization of activations.

pub mod dequantize;
pub mod quantize;

use super::{Axis, InferError, Operand};

/// Checks that `scale` and `zero_point` are both scalars, or both vectors along the dimension `axis` of `input`.
pub(super) fn check_scale(
    input: Operand<'_>,
    scale: Operand<'_>,
    zero_point: Option<Operand<'_>>,
    axis: Option<Axis>,
) -> Result<(), InferError> {
    match scale.shape[..] {
        [] if axis.is_some() => {
            return Err(InferError("`axis` makes no sense with a scalar `scale`".into()));
        }
        [] => {}
        [n] => {
            let axis = axis.ok_or_else(|| InferError("a vector `scale` needs an `axis`".into()))?;
            let axis = axis.resolve(input.rank())?;
            if !n.agrees(input.shape[axis]) {
                let size = input.shape[axis];
                return Err(InferError(format!("input `scale` is {scale}, but dimension {axis} is {size}")));
            }
        }
        _ => return Err(InferError(format!("input `scale` is {scale}, neither a scalar nor a vector"))),
    }
    if let Some(zero_point) = zero_point {
        let agrees = zero_point.rank() == scale.rank()
            && zero_point.shape.iter().zip(&scale.shape).all(|(a, b)| a.agrees(*b));
        if !agrees {
            return Err(InferError(format!("input `zero_point` is {zero_point}, but `scale` {scale}")));
        }
    }
    Ok(())
}
