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

use super::{Axes, Axis, InferError, Inferred, Operand};
use crate::{DType, Dim, TensorType};

/// Infers the type of ops that reduce the dimensions `axes` and keep the element type.
pub(super) fn reduce(
    x: Operand<'_>,
    axes: Option<&Axes>,
    keep_dims: bool,
) -> Result<Vec<Inferred>, InferError> {
    let axes = Axes::or_all(axes, x.rank())?;
    let shape = reduced(&x.shape, &axes, keep_dims);
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

/// Infers the type of ops that return an index along the dimension `axis`.
pub(super) fn reduce_arg(
    x: Operand<'_>,
    axis: Axis,
    keep_dims: bool,
    output_dtype: &str,
) -> Result<Vec<Inferred>, InferError> {
    let axis = axis.resolve(x.rank())?;
    if x.shape[axis] == Dim::Fixed(0) {
        return Err(InferError(format!("dimension {axis} of `x` is empty")));
    }
    let dtype = match output_dtype {
        "int32" => DType::Int32,
        "uint16" => DType::UInt16,
        other => {
            return Err(InferError(format!("`output_dtype` is \"{other}\", not \"int32\" or \"uint16\"")));
        }
    };
    Ok(vec![TensorType::new(dtype, reduced(&x.shape, &[axis], keep_dims)).into()])
}

fn reduced(shape: &[Dim], axes: &[usize], keep_dims: bool) -> Vec<Dim> {
    let kept = |d: usize| if axes.contains(&d) { keep_dims.then_some(Dim::Fixed(1)) } else { Some(shape[d]) };
    (0..shape.len()).filter_map(kept).collect()
}
