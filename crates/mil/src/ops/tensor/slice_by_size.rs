//! `slice_by_size`

use crate::op;
use crate::ops::{InferError, Inferred, Known, Operand};
use crate::{Dim, TensorType};

op! {
    /// The `size` elements of `x` that start at `begin`, in every dimension.
    ///
    /// A negative `begin` counts from the end. A `size` of -1 takes everything from `begin` on.
    SliceBySize since Ios13, Ios17 {
        x: Operand<T>,
        begin: Operand<[Int32] until Ios17, U>,
        size: Operand<[Int32] until Ios17, U>,
    }
    where
        T: [Fp16, Fp32, Int32, Bool] since Ios17 [Int8, Int16, UInt8, UInt16],
        U: since Ios17 [Int8, Int16, Int32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let vector = |t: Operand<'_>| {
        let v = t.partial().unwrap_or_else(|| vec![None; x.rank()]);
        require!(
            v.len() == x.rank(),
            "input `{}` has {} elements, `x` has rank {}",
            t.name,
            v.len(),
            x.rank()
        );
        Ok(v)
    };
    let (begin, size) = (vector(p.begin)?, vector(p.size)?);
    let mut shape = Vec::with_capacity(x.rank());
    for d in 0..x.rank() {
        shape.push(match (x.shape[d], begin[d], size[d]) {
            (Dim::Fixed(n), Some(b), Some(s)) => Dim::Fixed(taken(n, b, s)?.1),
            (_, _, Some(s)) if s >= 0 => Dim::Fixed(s as usize),
            (whole, Some(0), Some(-1)) => whole,
            _ => Dim::Unknown,
        });
    }
    let known = match (p.x.partial(), &*begin, &*shape) {
        (Some(v), &[Some(b)], &[Dim::Fixed(n)]) if x.rank() == 1 => {
            let (first, _) = taken(v.len(), b, n as i64)?;
            v.get(first..first + n).map(|v| Known::Partial(v.to_vec()))
        }
        _ => None,
    };
    Ok(vec![Inferred { ty: TensorType::new(x.dtype, shape).into(), known }])
}

/// Returns the first index and the number of elements that are taken of a dimension of `n` elements.
///
/// # Errors
/// The slice is not inside the dimension.
pub fn taken(n: usize, begin: i64, size: i64) -> Result<(usize, usize), InferError> {
    let first = if begin < 0 { begin.saturating_add(n as i64) } else { begin };
    let first = usize::try_from(first).ok().filter(|&f| f <= n);
    let count = first.map(|f| if size == -1 { n - f } else { usize::try_from(size).unwrap_or(usize::MAX) });
    match (first, count) {
        (Some(first), Some(count)) if count <= n - first => Ok((first, count)),
        _ => Err(InferError(format!("{size} elements from {begin} on are not in a dimension of size {n}"))),
    }
}
