//! Rows: the elements that an op such as a reduction or a normalization processes together.

use half::f16;
use milwright_mil::DType;

use crate::convert::{narrow, to_f32, widen, write_f32};
use crate::index::{Walk, strides};
use crate::{Pool, View, ViewMut};

/// How many strided rows (columns in memory) are transposed at a time.
const TILE: usize = 32;
/// The fewest elements for which work is split among threads.
const LEAST: usize = 16 * 1024;

/// The rows of a tensor along some of its dimensions. Rows are numbered in row-major order of the other dimensions.
///
/// ```text
/// shape [2, 3, 4] along dimension 1: 8 rows of 3 elements, which are 4 apart; one digit for each element
/// block 0   0 1 2 3   each column is a row; the digit is the row's number
///           0 1 2 3
///           0 1 2 3
/// block 1   4 5 6 7
///           4 5 6 7
///           4 5 6 7
/// ```
#[derive(Clone, Debug)]
pub struct Rows {
    /// The number of elements of a row.
    pub len: usize,
    /// The number of rows.
    pub count: usize,
    /// Elements from one element of a row to the next.
    stride: usize,
    /// The walk that makes each row contiguous, where rows do not have a single stride.
    gather: Option<Walk>,
}

impl Rows {
    /// The rows of `shape` along `axes`, which must be in range and distinct.
    pub fn new(shape: &[usize], axes: &[usize]) -> Rows {
        let reduced = |d: &usize| axes.contains(d);
        let (along, others): (Vec<usize>, Vec<usize>) = (0..shape.len()).partition(reduced);
        let size = |dims: &[usize]| dims.iter().map(|&d| shape[d]).product();
        let (len, count) = (size(&along), size(&others));
        let wide: Vec<usize> = (0..shape.len()).filter(|&d| shape[d] != 1).collect();
        let first = wide.iter().position(reduced).unwrap_or(wide.len());
        let last = wide.iter().rposition(reduced).map_or(wide.len(), |i| i + 1);
        if first >= last || wide[first..last].iter().all(reduced) {
            let stride = size(&wide[last.min(wide.len())..]);
            return Rows { len, count, stride, gather: None };
        }
        let own = strides(shape);
        let order = || others.iter().chain(&along);
        let sizes: Vec<usize> = order().map(|&d| shape[d]).collect();
        let walk = Walk::new(&sizes, order().map(|&d| own[d] as isize), 0);
        Rows { len, count, stride: 1, gather: Some(walk) }
    }

    /// Sets each element of `out` to `f` of a row.
    pub fn fold<T: Copy + Default + Send + Sync, R: Send>(
        &self,
        x: &[T],
        out: &mut [R],
        pool: &Pool,
        f: impl Fn(&[T]) -> R + Send + Sync,
    ) {
        debug_assert_eq!(out.len(), self.count);
        let gathered = self.gather.as_ref().map(|walk| {
            let mut all = vec![T::default(); x.len()];
            walk.gather(x, 0, &mut all);
            all
        });
        let x = gathered.as_deref().unwrap_or(x);
        let least = LEAST.div_ceil(self.len.max(1));
        let chunk = pool.chunk(out.len(), 1, least);
        pool.for_each_chunk(out, chunk, |c, out| {
            if self.stride == 1 {
                for (i, o) in out.iter_mut().enumerate() {
                    let start = (c * chunk + i) * self.len;
                    *o = f(&x[start..start + self.len]);
                }
                return;
            }
            let mut rows = vec![T::default(); TILE * self.len];
            let mut done = 0;
            while done < out.len() {
                let (outer, column, n) = self.tile(c * chunk + done, out.len() - done);
                self.load(&x[outer..], column, n, &mut rows);
                for i in 0..n {
                    out[done + i] = f(&rows[i * self.len..][..self.len]);
                }
                done += n;
            }
        });
    }

    /// Copies `x` to `out` and lets `f` change every row in place. `f` gets the row's number and elements.
    pub fn map(&self, x: &[f32], out: &mut [f32], pool: &Pool, f: impl Fn(usize, &mut [f32]) + Send + Sync) {
        if out.is_empty() {
            return;
        }
        if let Some(walk) = &self.gather {
            let mut all = vec![0.0; x.len()];
            walk.gather(x, 0, &mut all);
            all.chunks_mut(self.len).enumerate().for_each(|(i, row)| f(i, row));
            walk.runs(0, x.len(), |at, offset, stride, n| {
                for i in 0..n {
                    out[(offset as isize + i as isize * stride) as usize] = all[at + i];
                }
            });
            return;
        }
        if self.stride == 1 {
            let chunk = pool.chunk(out.len(), self.len, LEAST);
            pool.for_each_chunk(out, chunk, |c, out| {
                let start = c * chunk;
                for (i, row) in out.chunks_mut(self.len).enumerate() {
                    row.copy_from_slice(&x[start + i * self.len..][..row.len()]);
                    f(start / self.len + i, row);
                }
            });
            return;
        }
        let block = self.len * self.stride;
        pool.for_each_chunk(out, block, |c, out| {
            let x = &x[c * block..];
            let mut rows = vec![0.0; TILE * self.len];
            for column in (0..self.stride).step_by(TILE) {
                let n = TILE.min(self.stride - column);
                self.load(x, column, n, &mut rows);
                for (i, row) in rows.chunks_mut(self.len).take(n).enumerate() {
                    f(c * self.stride + column + i, row);
                }
                for j in 0..self.len {
                    let to = &mut out[j * self.stride + column..][..n];
                    to.iter_mut().enumerate().for_each(|(i, o)| *o = rows[i * self.len + j]);
                }
            }
        });
    }

    /// The length of rows whose elements are neighbours, if there are any.
    fn contiguous(&self) -> Option<usize> {
        (self.stride == 1 && self.gather.is_none() && self.len > 0).then_some(self.len)
    }

    /// Locates row `row`: the offset of its block, its column in the block, and how many of the `wanted` rows from it
    /// on are adjacent columns of that block.
    fn tile(&self, row: usize, wanted: usize) -> (usize, usize, usize) {
        let column = row % self.stride;
        let outer = row / self.stride * self.len * self.stride;
        (outer, column, TILE.min(wanted).min(self.stride - column))
    }

    /// Transposes `n` columns of a block into rows.
    fn load<T: Copy>(&self, block: &[T], column: usize, n: usize, rows: &mut [T]) {
        for j in 0..self.len {
            let from = &block[j * self.stride + column..][..n];
            from.iter().enumerate().for_each(|(i, &x)| rows[i * self.len + j] = x);
        }
    }
}

/// Like [`Rows::map`], on float tensors of any element type. Each result is rounded once.
pub fn map_rows(
    rows: &Rows,
    x: &View<'_>,
    out: &mut ViewMut<'_>,
    pool: &Pool,
    f: impl Fn(usize, &mut [f32]) + Send + Sync,
) {
    if let (DType::Fp16, DType::Fp16, Some(len)) = (x.dtype(), out.dtype(), rows.contiguous()) {
        // Row by row, so that what is between stays in the nearest cache.
        let (x, out) = (x.slice::<f16>(), out.slice::<f16>());
        let chunk = pool.chunk(out.len(), len, LEAST);
        return pool.for_each_chunk(out, chunk, |c, out| {
            let mut row = vec![0.0; len];
            for (i, out) in out.chunks_exact_mut(len).enumerate() {
                let start = c * chunk + i * len;
                widen(&x[start..start + len], &mut row);
                f(start / len, &mut row);
                narrow(&row, out);
            }
        });
    }
    let x = to_f32(x);
    if out.dtype() == DType::Fp32 {
        return rows.map(&x, out.slice(), pool, f);
    }
    let mut wide = vec![0.0; x.len()];
    rows.map(&x, &mut wide, pool, f);
    write_f32(out, 0, &wide);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::count;

    /// Sums the rows of 0, 1, 2, … as the definition says.
    fn expected(shape: &[usize], axes: &[usize]) -> Vec<i64> {
        let own = strides(shape);
        let kept: Vec<usize> = (0..shape.len()).filter(|d| !axes.contains(d)).collect();
        let mut sums = vec![0; kept.iter().map(|&d| shape[d]).product()];
        for i in 0..count(shape) {
            let row = kept.iter().fold(0, |row, &d| row * shape[d] + i / own[d] % shape[d]);
            sums[row] += i as i64;
        }
        sums
    }

    #[test]
    fn rows_along_any_axes() {
        let shape = [2, 3, 1, 40, 2];
        let x: Vec<i64> = (0..count(&shape) as i64).collect();
        let floats: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        for mask in 0..32usize {
            let axes: Vec<usize> = (0..5).filter(|d| mask >> d & 1 == 1).collect();
            let rows = Rows::new(&shape, &axes);
            let sums = expected(&shape, &axes);
            for pool in [Pool::inline(), Pool::new(2).unwrap()] {
                let mut out = vec![0; rows.count];
                rows.fold(&x, &mut out, &pool, |row| row.iter().sum());
                assert_eq!(out, sums, "{axes:?}");
                // Every row has its number, and is written back to its place.
                let mut changed = vec![0.0; x.len()];
                rows.map(&floats, &mut changed, &pool, |i, row| {
                    assert_eq!(row.iter().sum::<f32>(), sums[i] as f32, "{axes:?}");
                    row.iter_mut().for_each(|x| *x += 1.0);
                });
                assert!(changed.iter().zip(&floats).all(|(a, b)| *a == b + 1.0), "{axes:?}");
            }
        }
    }

    #[test]
    fn halves_are_rounded_once() {
        for (shape, axes) in [([3, 40, 5], vec![2]), ([3, 40, 5], vec![1, 2]), ([3, 40, 5], vec![0])] {
            let rows = Rows::new(&shape, &axes);
            let x: Vec<f16> = (0..600).map(|i| f16::from_f32(i as f32 / 7.0)).collect();
            let wide: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
            let f = |i: usize, row: &mut [f32]| row.iter_mut().for_each(|x| *x = *x * 1.001 + i as f32 / 3.0);
            let mut expected = vec![0.0; 600];
            rows.map(&wide, &mut expected, &Pool::inline(), f);
            let expected: Vec<f16> = expected.iter().map(|&x| f16::from_f32(x)).collect();
            for pool in [Pool::inline(), Pool::new(2).unwrap()] {
                let tensor = milwright_mil::Tensor::from_vec(&shape, x.clone()).unwrap();
                let mut out = vec![f16::ZERO; 600];
                let mut view = ViewMut::new(DType::Fp16, &shape, bytemuck::cast_slice_mut(&mut out));
                map_rows(&rows, &View::from(&tensor), &mut view, &pool, f);
                assert_eq!(out, expected, "{axes:?}");
            }
        }
    }

    #[test]
    fn empty_rows() {
        let rows = Rows::new(&[2, 0, 3], &[1]);
        let mut out = vec![1; 6];
        rows.fold(&[] as &[i32], &mut out, &Pool::inline(), |row| row.len());
        assert_eq!(out, [0; 6]);
    }
}
