//! Pooling.

pub mod avg_pool;
pub mod l2_pool;
pub mod max_pool;

use super::conv::{Sweep, sweeps};
use super::{Default, InferError, Inferred, Kind, OpView, Param, optional, required};
use crate::TensorType;

/// The parameters that every pool has.
pub(crate) const fn params() -> [Param; 6] {
    [
        required("x", Kind::T),
        required("kernel_sizes", Kind::INT32).constant(),
        optional("strides", Kind::INT32, Default::Absent).constant(),
        required("pad_type", Kind::STRING).constant(),
        optional("pad", Kind::INT32, Default::Absent).constant(),
        optional("ceil_mode", Kind::BOOL, Default::Bool(false)).constant(),
    ]
}

/// The sweeps of a pool's window over the spatial dimensions of `x`.
///
/// # Errors
/// A parameter has the wrong length, or the window does not fit.
pub fn windows(op: &OpView<'_>) -> Result<Vec<Sweep>, InferError> {
    let x = op.tensor("x")?;
    if !(3..=5).contains(&x.rank()) {
        return Err(InferError(format!("`x` is a {x}; it must have rank 3, 4 or 5")));
    }
    let kernel: Option<Vec<usize>> =
        op.ints("kernel_sizes")?.iter().map(|&k| usize::try_from(k).ok().filter(|&k| k > 0)).collect();
    let kernel = kernel.ok_or_else(|| InferError("input `kernel_sizes` must be positive".into()))?;
    sweeps(op, &x.shape[2..], &kernel)
}

pub(crate) fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let windows = windows(op)?;
    let x = op.tensor("x")?;
    let mut shape = x.shape[..2].to_vec();
    shape.extend(windows.iter().map(|s| s.output));
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
