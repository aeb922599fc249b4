//! Reductions along dimensions.

pub mod reduce_argmax;
pub mod reduce_argmin;
pub mod reduce_l1_norm;
pub mod reduce_l2_norm;
pub mod reduce_log_sum;
pub mod reduce_log_sum_exp;
pub mod reduce_max;
pub mod reduce_mean;
pub mod reduce_min;
pub mod reduce_prod;
pub mod reduce_sum;
pub mod reduce_sum_square;

use super::{InferError, Inferred, OpView};
use crate::{DType, Dim, TensorType};

/// Type inference of ops that reduce the dimensions `axes` and keep the element type.
pub(super) fn reduce(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    let axes = op.opt_axes("axes", x.rank())?.unwrap_or_else(|| (0..x.rank()).collect());
    let shape = reduced(&x.shape, &axes, op.bool("keep_dims")?);
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

/// Type inference of ops that find an index along the dimension `axis`.
pub(super) fn reduce_arg(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    let axis = op.axis("axis", x.rank())?;
    if x.shape[axis] == Dim::Fixed(0) {
        return Err(InferError(format!("dimension {axis} of `x` is empty")));
    }
    let dtype = match op.has("output_dtype").then(|| op.str("output_dtype")).transpose()? {
        None | Some("int32") => DType::Int32,
        Some("uint16") => DType::UInt16,
        Some(other) => {
            return Err(InferError(format!("`output_dtype` is \"{other}\", not \"int32\" or \"uint16\"")));
        }
    };
    Ok(vec![TensorType::new(dtype, reduced(&x.shape, &[axis], op.bool("keep_dims")?)).into()])
}

fn reduced(shape: &[Dim], axes: &[usize], keep_dims: bool) -> Vec<Dim> {
    let kept = |d: usize| if axes.contains(&d) { keep_dims.then_some(Dim::Fixed(1)) } else { Some(shape[d]) };
    (0..shape.len()).filter_map(kept).collect()
}
