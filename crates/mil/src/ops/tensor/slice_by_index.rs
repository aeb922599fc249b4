//! `slice_by_index`

use crate::op;
use crate::ops::{InferError, Inferred, Known, Operand};
use crate::{Dim, TensorType};

op! {
    /// The elements of `x` from `begin` to before `end` by `stride`, in every dimension, as Python slices.
    ///
    /// Negative `begin` and `end` count from the end, and both are moved into range. A true `begin_mask` or
    /// `end_mask` starts or stops that dimension where it starts or stops. A true `squeeze_mask` takes the one
    /// element at `begin` and drops the dimension.
    SliceByIndex since Ios13, Ios17 {
        x: Operand<T>,
        begin: Operand<[Int32] until Ios17, U>,
        end: Operand<[Int32] until Ios17, U>,
        stride: Option<Ints<[Int32] until Ios17, U>>,
        begin_mask: Option<Bools>,
        end_mask: Option<Bools>,
        squeeze_mask: Option<Bools>,
    }
    where
        T: [Fp16, Fp32, Int32, Bool] since Ios17 [Int8, Int16, UInt8, UInt16],
        U: since Ios17 [Int8, Int16, Int32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let slices = p.bounds().slices(x.rank())?;
    let shape = sliced_shape(&slices, &x.shape)?;
    let known = match (&*slices, p.x.partial().as_deref()) {
        ([slice], Some(elements)) if x.rank() == 1 => slice.partial(elements).map(Known::Partial),
        _ => None,
    };
    Ok(vec![Inferred { ty: TensorType::new(x.dtype, shape).into(), known }])
}

/// A slice of one dimension. `begin` and `end` are `None` if they are unknown or masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Where to begin, as given.
    pub begin: Option<i64>,
    /// Where to end, as given.
    pub end: Option<i64>,
    /// The step, not zero.
    pub stride: i64,
    /// Begin where the dimension begins (or ends, for a negative stride).
    pub from_start: bool,
    /// End where the dimension ends (or begins, for a negative stride).
    pub to_end: bool,
    /// Take one element and drop the dimension.
    pub squeeze: bool,
}

/// The elements that a slice takes of a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The index of the first; meaningless if there are none.
    pub first: usize,
    /// From one to the next.
    pub step: i64,
    /// How many.
    pub count: usize,
}

/// The parameters of `slice_by_index` and `slice_update` that choose elements.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// `begin`
    pub begin: Operand<'a>,
    /// `end`
    pub end: Operand<'a>,
    /// `stride`
    pub stride: Option<&'a [i64]>,
    /// `begin_mask`
    pub begin_mask: Option<&'a [bool]>,
    /// `end_mask`
    pub end_mask: Option<&'a [bool]>,
    /// `squeeze_mask`
    pub squeeze_mask: Option<&'a [bool]>,
}

/// Reads [`Bounds`] from an op's parameters.
macro_rules! bounds {
    () => {
        impl Params<'_> {
            /// What to take.
            pub fn bounds(&self) -> $crate::ops::tensor::slice_by_index::Bounds<'_> {
                $crate::ops::tensor::slice_by_index::Bounds {
                    begin: self.begin,
                    end: self.end,
                    stride: self.stride.as_deref(),
                    begin_mask: self.begin_mask.as_deref(),
                    end_mask: self.end_mask.as_deref(),
                    squeeze_mask: self.squeeze_mask.as_deref(),
                }
            }
        }
    };
}
bounds!();
pub(super) use bounds;

impl Bounds<'_> {
    /// The slices of a tensor of `rank` dimensions. Dimensions beyond the last element of `begin` or `end` begin or
    /// end where they do, as in NumPy's `x[1:2]` of a matrix: converters write such.
    ///
    /// # Errors
    /// A parameter has more elements than `rank`, or a stride is zero.
    pub fn slices(&self, rank: usize) -> Result<Vec<Slice>, InferError> {
        let fits = |name, len| {
            require!(len <= rank, "input `{name}` has {len} elements, `x` has rank {rank}");
            Ok(())
        };
        // Returns the indices that `begin` or `end` gives for the first dimensions, each `None` if it is unknown.
        let indices = |t: Operand<'_>| {
            let len = t.shape.first().and_then(|d| d.fixed()).unwrap_or(rank);
            fits(t.name, len)?;
            let v = t.partial().unwrap_or_else(|| vec![None; len]);
            fits(t.name, v.len())?;
            Ok(v)
        };
        let mask = |name, mask: Option<&[bool]>| {
            let mut v = mask.unwrap_or_default().to_vec();
            fits(name, v.len())?;
            v.resize(rank, false);
            Ok(v)
        };
        let (begin, end) = (indices(self.begin)?, indices(self.end)?);
        let begin_mask = mask("begin_mask", self.begin_mask)?;
        let end_mask = mask("end_mask", self.end_mask)?;
        let squeeze = mask("squeeze_mask", self.squeeze_mask)?;
        let mut stride = self.stride.unwrap_or_default().to_vec();
        fits("stride", stride.len())?;
        stride.resize(rank, 1);
        require!(stride.iter().all(|&s| s != 0), "input `stride` has a zero");
        let slice = |d: usize| {
            let (from_start, to_end) = (begin_mask[d] || d >= begin.len(), end_mask[d] || d >= end.len());
            Slice {
                begin: begin.get(d).copied().flatten().filter(|_| !from_start),
                end: end.get(d).copied().flatten().filter(|_| !to_end && !squeeze[d]),
                stride: stride[d],
                from_start,
                to_end: to_end && !squeeze[d],
                squeeze: squeeze[d],
            }
        };
        Ok((0..rank).map(slice).collect())
    }
}

/// Returns the shape that the slices take. Squeezed dimensions are dropped.
///
/// # Errors
/// A squeezed dimension has no element at its index.
pub fn sliced_shape(slices: &[Slice], x: &[Dim]) -> Result<Vec<Dim>, InferError> {
    let mut shape = Vec::with_capacity(x.len());
    for (slice, &d) in slices.iter().zip(x) {
        let count = slice.count(d)?;
        if !slice.squeeze {
            shape.push(count);
        }
    }
    Ok(shape)
}

impl Slice {
    /// What the slice takes of a dimension of `size` elements; `None` if `begin` or `end` is not known.
    ///
    /// # Errors
    /// The dimension is squeezed, and there is no element at its index.
    pub fn take(&self, size: usize) -> Result<Option<Taken>, InferError> {
        let n = size as i64;
        let from_end = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
        if self.squeeze {
            let Some(begin) = self.begin.or(self.from_start.then_some(0)) else { return Ok(None) };
            let first = from_end(begin);
            require!((0..n).contains(&first), "index {begin} is out of range for a dimension of size {size}");
            return Ok(Some(Taken { first: first as usize, step: 1, count: 1 }));
        }
        // The limits of indices, and the ends of the whole dimension, in the direction of the stride.
        let (low, high) = if self.stride > 0 { (0, n) } else { (-1, n - 1) };
        let (start, stop) = if self.stride > 0 { (0, n) } else { (n - 1, -1) };
        let place = |i: Option<i64>, whole: bool, otherwise: i64| match i {
            _ if whole => Some(otherwise),
            Some(i) => Some(from_end(i).clamp(low, high)),
            None => None,
        };
        let (Some(begin), Some(end)) =
            (place(self.begin, self.from_start, start), place(self.end, self.to_end, stop))
        else {
            return Ok(None);
        };
        let distance = if self.stride > 0 { end - begin } else { begin - end };
        let count = if distance <= 0 { 0 } else { (distance - 1) / self.stride.saturating_abs() + 1 };
        Ok(Some(Taken { first: begin.max(0) as usize, step: self.stride, count: count as usize }))
    }

    /// How many elements the slice takes of a dimension.
    fn count(&self, d: Dim) -> Result<Dim, InferError> {
        if let Dim::Fixed(size) = d {
            return Ok(self.take(size)?.map_or(Dim::Unknown, |t| Dim::Fixed(t.count)));
        }
        // Sizes that do not depend on the size of the dimension, if the slice is in range.
        Ok(match (self.begin, self.end) {
            _ if self.squeeze => Dim::Fixed(1),
            _ if self.from_start && self.to_end && self.stride.saturating_abs() == 1 => d,
            (Some(b), Some(e)) if (b < 0) == (e < 0) && b == e => Dim::Fixed(0),
            (Some(b), Some(e)) if (b < 0) == (e < 0) && e.checked_sub(b) == Some(self.stride.signum()) => {
                Dim::Fixed(1)
            }
            (Some(-1), None) if self.to_end && self.stride > 0 => Dim::Fixed(1),
            (Some(0), None) if self.to_end && self.stride < 0 => Dim::Fixed(1),
            _ => Dim::Unknown,
        })
    }

    fn partial(&self, elements: &[Option<i64>]) -> Option<Vec<Option<i64>>> {
        let taken = self.take(elements.len()).ok()??;
        (0..taken.count).map(|i| elements.get(taken.index(i)).copied()).collect()
    }
}

impl Taken {
    /// The index in the dimension of the i-th element taken.
    pub fn index(&self, i: usize) -> usize {
        (self.first as i64 + i as i64 * self.step) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(begin: i64, end: Option<i64>, stride: i64) -> Slice {
        let to_end = end.is_none();
        Slice { begin: Some(begin), end, stride, from_start: false, to_end, squeeze: false }
    }

    #[test]
    fn slices_as_python_does() {
        let indices = |s: Slice, n| {
            let t = s.take(n).unwrap().unwrap();
            (0..t.count).map(|i| t.index(i)).collect::<Vec<_>>()
        };
        assert_eq!(indices(slice(1, Some(4), 1), 5), [1, 2, 3]);
        assert_eq!(indices(slice(-3, Some(-1), 1), 5), [2, 3]);
        assert_eq!(indices(slice(-9, Some(9), 2), 5), [0, 2, 4]);
        assert_eq!(indices(slice(3, Some(0), -2), 5), [3, 1]);
        assert_eq!(indices(slice(9, None, -2), 5), [4, 2, 0]);
        assert_eq!(indices(slice(2, Some(2), 1), 5), [0; 0]);
        assert_eq!(indices(slice(0, None, 1), 0), [0; 0]);
        assert_eq!(indices(slice(i64::MIN, Some(i64::MAX), 3), 4), [0, 3]);
    }

    #[test]
    fn some_sizes_are_known_of_unknown_dimensions() {
        let count = |s: Slice| s.count(Dim::Unknown).unwrap();
        assert_eq!(count(slice(2, Some(3), 1)), Dim::Fixed(1));
        assert_eq!(count(slice(-1, None, 1)), Dim::Fixed(1));
        assert_eq!(count(slice(2, Some(5), 1)), Dim::Unknown);
        assert_eq!(count(slice(-2, Some(3), 1)), Dim::Unknown);
    }

    #[test]
    fn squeezed_index_must_exist() {
        let s = |begin| Slice { squeeze: true, ..slice(begin, Some(0), 1) };
        assert_eq!(s(-1).take(3).unwrap().unwrap().first, 2);
        assert!(s(3).take(3).is_err());
        assert!(s(-4).take(3).is_err());
    }
}
