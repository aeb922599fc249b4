//! `split`

use crate::op;
use crate::ops::{InferError, Inferred, Known, dim};
use crate::{Dim, TensorType};

op! {
    /// Cuts `x` into parts along `axis`: `num_splits` equal ones, or parts of the sizes `split_sizes`.
    Split since Ios13 {
        x: Operand<T>,
        num_splits: Option<i64>,
        split_sizes: Option<Ints>,
        axis: Axis,
    }
    where T: [Fp16, Fp32, Int32, Bool]
    => infer
}

/// The most parts: far more than in any real model, but few enough to store a type for each.
const MAX_PARTS: i64 = 4096;

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let axis = p.axis.resolve(x.rank())?;
    let sizes = sizes(p, x.shape[axis])?;
    let elements = if x.rank() == 1 { p.x.partial() } else { None };
    let mut first = Some(0);
    let part = |size: Dim| {
        let mut shape = x.shape.clone();
        shape[axis] = size;
        let next = first.zip(size.fixed()).and_then(|(f, n): (usize, usize)| f.checked_add(n));
        let range = first.zip(next);
        first = next;
        let known = range.zip(elements.as_ref()).and_then(|((from, to), v)| v.get(from..to));
        Inferred {
            ty: TensorType::new(x.dtype, shape).into(),
            known: known.map(|v| Known::Partial(v.to_vec())),
        }
    };
    Ok(sizes.into_iter().map(part).collect())
}

/// Returns the sizes of the parts of a dimension of size `whole`.
fn sizes(p: &Params<'_>, whole: Dim) -> Result<Vec<Dim>, InferError> {
    let parts = p.num_splits;
    require!(
        parts.is_none_or(|n| (1..=MAX_PARTS).contains(&n)),
        "input `num_splits` is {}",
        parts.unwrap_or(0)
    );
    let Some(sizes) = &p.split_sizes else {
        let Some(n) = parts else {
            return Err(InferError("either `num_splits` or `split_sizes` must be given".into()));
        };
        let n = n as usize;
        if let Some(whole) = whole.fixed() {
            require!(whole % n == 0, "a dimension of size {whole} cannot be split into {n} equal parts");
        }
        return Ok(vec![whole.map(|whole| Some(whole / n)); n]);
    };
    let sizes: Vec<Dim> = sizes.iter().map(|&n| dim(Some(n))).collect();
    let sum = sizes.iter().fold(Dim::Fixed(0), |sum, &n| sum.zip_with(n, usize::checked_add));
    require!(sum.fixed().is_some(), "input `split_sizes` has negative elements");
    require!(sum.agrees(whole), "input `split_sizes` adds up to {sum}, the dimension has size {whole}");
    require!(
        parts.is_none_or(|n| n as usize == sizes.len()),
        "`num_splits` differs from the {} elements of `split_sizes`",
        sizes.len()
    );
    Ok(sizes)
}
