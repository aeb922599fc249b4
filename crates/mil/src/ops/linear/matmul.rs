//! `matmul`

use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Dim, TensorType};

op! {
    /// The matrix product of the last two dimensions; the ones before broadcast.
    ///
    /// `transpose_x` and `transpose_y` swap the last two dimensions first. An `x` of rank 1 is a row, which the result
    /// lacks again. From iOS17 on the types may differ: the result has that of the input that is no constant.
    Matmul since Ios13, Ios17 {
        x: Operand<T>,
        y: Operand<T until Ios17, U>,
        transpose_x: bool = false,
        transpose_y: bool = false,
    }
    where T: [Fp16, Fp32, Int32], U: since Ios17 [Fp16, Fp32, Int32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, y) = (p.x, p.y);
    if x.rank() == 0 || y.rank() < 2 || (x.rank() == 1 && p.transpose_x) {
        return Err(InferError(format!("`x` is a {x} and `y` a {y}, which have no matrix product")));
    }
    let (mut a, mut b) = (x.shape.clone(), y.shape.clone());
    if a.len() == 1 {
        a.insert(0, Dim::Fixed(1));
    }
    let (m, n) = (a.len(), b.len());
    if p.transpose_x {
        a.swap(m - 1, m - 2);
    }
    if p.transpose_y {
        b.swap(n - 1, n - 2);
    }
    if !a[m - 1].agrees(b[n - 2]) {
        return Err(InferError(format!(
            "`x` has {} columns, `y` has {} rows ({x}, {y})",
            a[m - 1],
            b[n - 2]
        )));
    }
    let mut shape = broadcast(&a[..m - 2], &b[..n - 2])
        .ok_or_else(|| InferError(format!("the shapes of `x`, a {x}, and `y`, a {y}, do not broadcast")))?;
    if x.rank() > 1 {
        shape.push(a[m - 2]);
    }
    shape.push(b[n - 1]);
    // If the element types differ, the result has that of the operand that is not constant.
    let dtype = if p.x.value().is_some() && p.y.value().is_none() { y.dtype } else { x.dtype };
    Ok(vec![TensorType::new(dtype, shape).into()])
}

fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let at = |s: &[Dim], d: usize| (d + s.len()).checked_sub(rank).map_or(Dim::Fixed(1), |i| s[i]);
    let dim = |d| match (at(a, d), at(b, d)) {
        (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => Some(other),
        (Dim::Fixed(n), Dim::Fixed(m)) => (n == m).then_some(Dim::Fixed(n)),
        // If `n` is larger than 1, the unknown size must be 1 or `n`, and the result is `n`.
        (Dim::Fixed(n), Dim::Unknown) | (Dim::Unknown, Dim::Fixed(n)) => Some(Dim::Fixed(n)),
        (Dim::Unknown, Dim::Unknown) => Some(Dim::Unknown),
    };
    (0..rank).map(dim).collect()
}
