//! Affine quantization of activations.

pub mod dequantize;
pub mod quantize;

use super::{InferError, OpView};

/// Checks that `scale` and `zero_point` are both scalars, or both vectors along the dimension `axis` of `input`.
pub(super) fn check_scale(op: &OpView<'_>) -> Result<(), InferError> {
    let (input, scale) = (op.tensor("input")?, op.tensor("scale")?);
    match scale.shape[..] {
        [] if op.has("axis") => {
            return Err(InferError("`axis` makes no sense with a scalar `scale`".into()));
        }
        [] => {}
        [n] => {
            let axis = op.axis("axis", input.rank())?;
            if !n.agrees(input.shape[axis]) {
                let size = input.shape[axis];
                return Err(InferError(format!("input `scale` is {scale}, but dimension {axis} is {size}")));
            }
        }
        _ => return Err(InferError(format!("input `scale` is {scale}, neither a scalar nor a vector"))),
    }
    if op.has("zero_point") {
        let zero_point = op.tensor("zero_point")?;
        let agrees = zero_point.rank() == scale.rank()
            && zero_point.shape.iter().zip(&scale.shape).all(|(a, b)| a.agrees(*b));
        if !agrees {
            return Err(InferError(format!("input `zero_point` is {zero_point}, but `scale` {scale}")));
        }
    }
    Ok(())
}
