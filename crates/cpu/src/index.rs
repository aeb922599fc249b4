//! Index arithmetic: strides, broadcasting, and walking strided tensors in runs.

use smallvec::SmallVec;

/// A few numbers, one per dimension.
pub type Dims = SmallVec<[usize; 6]>;

/// The number of elements of a shape.
pub fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Row-major strides, in elements.
pub fn strides(shape: &[usize]) -> Dims {
    let mut strides: Dims = SmallVec::from_elem(1, shape.len());
    for d in (1..shape.len()).rev() {
        strides[d - 1] = strides[d] * shape[d];
    }
    strides
}

/// Returns strides that read `from` as if it had the shape `to`, to which it broadcasts as in NumPy. The stride of a
/// repeated dimension is 0.
pub fn broadcast_strides(from: &[usize], to: &[usize]) -> Dims {
    let offset = to.len() - from.len();
    let own = strides(from);
    (0..to.len()).map(|d| if d < offset || from[d - offset] == 1 { 0 } else { own[d - offset] }).collect()
}

/// The order in which a tensor is read to give another shape: each dimension of that shape has a size and a stride (in
/// elements of this tensor). Transposes, slices and broadcasts are walks.
///
/// The transpose of a dense 2 × 3 matrix, for example, is the walk with sizes 3, 2 and strides 1, 3.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    /// Sizes and strides, outermost first, with adjacent dimensions merged where possible.
    dims: SmallVec<[(usize, isize); 6]>,
    offset: isize,
}

impl Walk {
    /// A walk over `shape` with these strides, from this offset.
    pub fn new(shape: &[usize], strides: impl IntoIterator<Item = isize>, offset: isize) -> Walk {
        let mut dims: SmallVec<[(usize, isize); 6]> = SmallVec::new();
        for (&n, s) in shape.iter().zip(strides) {
            if n == 1 {
                continue;
            }
            match dims.last_mut() {
                Some((m, outer)) if n.checked_mul_signed_eq(s, *outer) => (*m, *outer) = (*m * n, s),
                _ => dims.push((n, s)),
            }
        }
        Walk { dims, offset }
    }

    /// The walk that broadcasts a tensor of the shape `from` to `to`.
    pub fn broadcast(from: &[usize], to: &[usize]) -> Walk {
        Walk::new(to, broadcast_strides(from, to).into_iter().map(|s| s as isize), 0)
    }

    /// Sizes and strides, outermost first, with adjacent dimensions merged where possible.
    pub fn dims(&self) -> &[(usize, isize)] {
        &self.dims
    }

    /// The offset in the tensor of position `position` of the walk.
    pub fn offset_at(&self, mut position: usize) -> usize {
        let mut offset = self.offset;
        for &(n, s) in self.dims.iter().rev() {
            offset += (position % n) as isize * s;
            position /= n;
        }
        offset as usize
    }

    /// Whether the walk is over consecutive elements.
    pub fn is_dense(&self) -> bool {
        matches!(self.dims.as_slice(), [] | [(_, 1)])
    }

    /// Whether the walk reads one element again and again.
    pub fn is_constant(&self) -> bool {
        matches!(self.dims.as_slice(), [] | [(_, 0)])
    }

    /// If the walk reads the elements 0, 1, 2 … of a tensor one after the other, each several times in a row, and all of
    /// them again and again: how often each in a row, and how many elements.
    pub fn repetition(&self) -> Option<[usize; 2]> {
        if self.offset != 0 {
            return None;
        }
        match *self.dims.as_slice() {
            [(inner, 0)] => Some([inner, 1]),
            [(count, 1), (inner, 0)] | [(_, 0), (count, 1), (inner, 0)] => Some([inner, count]),
            [(_, 0), (count, 1)] => Some([1, count]),
            _ => None,
        }
    }

    /// Calls `f` with runs (position in the walk counted from `start`, offset in the tensor, stride, length) that
    /// together cover positions `start` .. `start + len`.
    pub fn runs(&self, start: usize, len: usize, mut f: impl FnMut(usize, usize, isize, usize)) {
        let (inner, stride) = self.dims.last().copied().unwrap_or((1, 0));
        let outer = &self.dims[..self.dims.len().saturating_sub(1)];
        if len == 0 || inner == 0 {
            return;
        }
        // The index in each outer dimension, and the offset in the tensor that they make.
        let mut rest = start / inner;
        let mut at: SmallVec<[usize; 6]> = SmallVec::from_elem(0, outer.len());
        let mut base = self.offset;
        for (d, &(n, s)) in outer.iter().enumerate().rev() {
            at[d] = rest % n;
            rest /= n;
            base += at[d] as isize * s;
        }
        let (mut done, mut skip) = (0, start % inner);
        while done < len {
            let run = (inner - skip).min(len - done);
            f(done, (base + skip as isize * stride) as usize, stride, run);
            done += run;
            skip = 0;
            for (d, &(n, s)) in outer.iter().enumerate().rev() {
                at[d] += 1;
                base += s;
                if at[d] < n {
                    break;
                }
                base -= n as isize * s;
                at[d] = 0;
            }
        }
    }

    /// Copies the elements at positions `start` .. `start + out.len()` of the walk over `from`.
    pub fn gather<T: Copy>(&self, from: &[T], start: usize, out: &mut [T]) {
        self.runs(start, out.len(), |at, offset, stride, n| {
            let out = &mut out[at..at + n];
            match stride {
                0 => out.fill(from[offset]),
                1 => out.copy_from_slice(&from[offset..offset + n]),
                s if s > 0 => {
                    let from = from[offset..].iter().step_by(s as usize);
                    out.iter_mut().zip(from).for_each(|(o, &x)| *o = x);
                }
                s => {
                    let mut at = offset as isize;
                    for o in out {
                        *o = from[at as usize];
                        at += s;
                    }
                }
            }
        });
    }
}

trait MulEq {
    /// Whether `self` times `stride` is `outer`.
    fn checked_mul_signed_eq(self, stride: isize, outer: isize) -> bool;
}

impl MulEq for usize {
    fn checked_mul_signed_eq(self, stride: isize, outer: isize) -> bool {
        isize::try_from(self).ok().and_then(|n| n.checked_mul(stride)) == Some(outer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(walk: &Walk, from: &[i32], len: usize) -> Vec<i32> {
        let mut out = vec![0; len];
        walk.gather(from, 0, &mut out);
        // However the range is split, the result is the same.
        for start in 0..len {
            let mut part = vec![0; len - start];
            walk.gather(from, start, &mut part);
            assert_eq!(part, out[start..]);
        }
        out
    }

    #[test]
    fn broadcasts() {
        let walk = Walk::broadcast(&[2, 1], &[2, 3]);
        assert_eq!(all(&walk, &[7, 8], 6), [7, 7, 7, 8, 8, 8]);
        let walk = Walk::broadcast(&[3], &[2, 3]);
        assert_eq!(all(&walk, &[1, 2, 3], 6), [1, 2, 3, 1, 2, 3]);
        assert!(Walk::broadcast(&[2, 3], &[2, 3]).is_dense());
        assert!(Walk::broadcast(&[], &[2, 3]).is_constant());
    }

    #[test]
    fn transposes_and_reverses() {
        let walk = Walk::new(&[3, 2], [1, 3], 0);
        assert_eq!(all(&walk, &[1, 2, 3, 4, 5, 6], 6), [1, 4, 2, 5, 3, 6]);
        let walk = Walk::new(&[3], [-1], 2);
        assert_eq!(all(&walk, &[1, 2, 3], 3), [3, 2, 1]);
    }
}
