//! Functions of two tensors, element by element, with broadcasting.

pub mod add;
pub mod equal;
pub mod floor_div;
pub mod greater;
pub mod greater_equal;
pub mod less;
pub mod less_equal;
pub mod logical_and;
pub mod logical_or;
pub mod logical_xor;
pub mod maximum;
pub mod minimum;
pub mod modulo;
pub mod mul;
pub mod not_equal;
pub mod pow;
pub mod real_div;
pub mod sub;

use super::{InferError, Inferred, Known, Operand};
use crate::{DType, Dim, TensorType};

/// Infers the type of ops whose result has the element type of `x` and `y`.
pub(super) fn broadcast(x: Operand<'_>, y: Operand<'_>) -> Result<Vec<Inferred>, InferError> {
    let shape = broadcast_shapes(&x.shape, &y.shape)?;
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

/// Infers the type of ops whose result is bool.
pub(super) fn compare(x: Operand<'_>, y: Operand<'_>) -> Result<Vec<Inferred>, InferError> {
    let shape = broadcast_shapes(&x.shape, &y.shape)?;
    Ok(vec![TensorType::new(DType::Bool, shape).into()])
}

/// Like [`broadcast`], and also computes known elements of small integer tensors, such as shapes.
pub(super) fn arithmetic(
    x: Operand<'_>,
    y: Operand<'_>,
    f: impl Fn(i64, i64) -> Option<i64>,
) -> Result<Vec<Inferred>, InferError> {
    let mut inferred = broadcast(x, y)?;
    let ty = inferred[0].ty.as_tensor();
    if ty.is_some_and(|t| t.dtype == DType::Int32 && t.rank() <= 1)
        && let (Some(x), Some(y)) = (x.partial(), y.partial())
        && (x.len() == y.len() || x.len() == 1 || y.len() == 1)
    {
        let len = if x.len() == 1 { y.len() } else { x.len() };
        let at = |v: &[Option<i64>], i: usize| if v.len() == 1 { v[0] } else { v[i] };
        // A result that does not fit int32 wraps at run time; here it counts as unknown.
        let fits = |n: i64| i32::try_from(n).is_ok().then_some(n);
        let known = (0..len).map(|i| f(at(&x, i)?, at(&y, i)?).and_then(fits)).collect();
        inferred[0].known = Some(Known::Partial(known));
    }
    Ok(inferred)
}

/// Returns the shape that two shapes broadcast to, as in NumPy.
pub(super) fn broadcast_shapes(x: &[Dim], y: &[Dim]) -> Result<Vec<Dim>, InferError> {
    let rank = x.len().max(y.len());
    let at = |s: &[Dim], d: usize| (d + s.len()).checked_sub(rank).map_or(Dim::Fixed(1), |d| s[d]);
    let mut shape = Vec::with_capacity(rank);
    for d in 0..rank {
        shape.push(match (at(x, d), at(y, d)) {
            (Dim::Fixed(1), n) | (n, Dim::Fixed(1)) => n,
            (Dim::Fixed(a), Dim::Fixed(b)) if a == b => Dim::Fixed(a),
            (Dim::Fixed(_), Dim::Fixed(_)) => {
                let show = |s: &[Dim]| s.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ");
                return Err(InferError(format!(
                    "shapes [{}] and [{}] cannot be broadcast to one another",
                    show(x),
                    show(y)
                )));
            }
            // For the shapes to broadcast, the unknown size must be 1 or `n`; either way the result is `n`.
            (Dim::Fixed(n), Dim::Unknown) | (Dim::Unknown, Dim::Fixed(n)) => Dim::Fixed(n),
            (Dim::Unknown, Dim::Unknown) => Dim::Unknown,
        });
    }
    Ok(shape)
}
