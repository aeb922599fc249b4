//! Matrices in memory, and how they are packed into panels.

use half::f16;

use super::{Isa, Panels};
use crate::simd::convert;
use crate::simd::isa::MAX_LANES;

/// A destination of elements.
pub enum Elements<'a> {
    /// Single precision.
    F32(&'a mut [f32]),
    /// Half precision, rounded to nearest even.
    F16(&'a mut [f16]),
}

impl Elements<'_> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Elements::F32(x) => x.len(),
            Elements::F16(x) => x.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A source of elements that are read as `f32`.
pub trait Source: Copy + Sync {
    /// Reads `out.len()` consecutive elements from index `at` on.
    fn read(self, isa: Isa, at: usize, out: &mut [f32]);
    /// Reads one element.
    fn get(self, at: usize) -> f32;
    /// Reads every second element from index `at` on.
    fn read_second(self, at: usize, out: &mut [f32]);
}

/// Single precision.
#[derive(Clone, Copy, Debug)]
pub struct F32<'a>(pub &'a [f32]);

/// Half precision.
#[derive(Clone, Copy, Debug)]
pub struct F16<'a>(pub &'a [f16]);

impl Source for F32<'_> {
    #[inline]
    fn read(self, _: Isa, at: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.0[at..at + out.len()]);
    }
    #[inline]
    fn get(self, at: usize) -> f32 {
        self.0[at]
    }
    #[inline]
    fn read_second(self, at: usize, out: &mut [f32]) {
        out.iter_mut().zip(self.0[at..].chunks(2)).for_each(|(o, pair)| *o = pair[0]);
    }
}

impl Source for F16<'_> {
    #[inline]
    fn read(self, isa: Isa, at: usize, out: &mut [f32]) {
        convert::widen(isa, &self.0[at..at + out.len()], out);
    }
    #[inline]
    fn get(self, at: usize) -> f32 {
        self.0[at].to_f32()
    }
    #[inline]
    fn read_second(self, at: usize, out: &mut [f32]) {
        out.iter_mut().zip(self.0[at..].chunks(2)).for_each(|(o, pair)| *o = pair[0].to_f32());
    }
}

/// The matrices of a batch. Element (r, c) of a matrix is at `r * strides[0] + c * strides[1]` from the matrix's start.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    data: T,
    rows: usize,
    columns: usize,
    strides: [usize; 2],
    /// The start of each matrix; if empty, there is one matrix, at 0.
    starts: &'a [usize],
}

impl<'a, T: Source + 'a> Matrix<'a, T> {
    /// Matrices that start at the elements `starts`; if `starts` is empty, one matrix that starts at the first element.
    pub fn new(data: T, rows: usize, columns: usize, strides: [usize; 2], starts: &'a [usize]) -> Self {
        Matrix { data, rows, columns, strides, starts }
    }

    /// The matrices as the operand A: panels of rows.
    pub fn rows(self) -> impl Panels + 'a {
        Lines { matrix: self, step: self.strides[1], line: self.strides[0], k: self.columns }
    }

    /// The matrices as the operand B: panels of columns.
    pub fn columns(self) -> impl Panels + 'a {
        Lines { matrix: self, step: self.strides[0], line: self.strides[1], k: self.rows }
    }
}

struct Lines<'a, T> {
    matrix: Matrix<'a, T>,
    /// Stride along k.
    step: usize,
    /// Stride from one line (row of A or column of B) of the panel to the next.
    line: usize,
    k: usize,
}

impl<T: Source> Panels for Lines<'_, T> {
    fn pack(&self, isa: Isa, batch: usize, first: usize, count: usize, width: usize, out: &mut [f32]) {
        const CHUNK: usize = 32;
        const MAX_LINES: usize = 2 * MAX_LANES;
        let start = self.matrix.starts.get(batch).copied().unwrap_or(0) + first * self.line;
        let data = self.matrix.data;
        if self.line == 1 {
            for (x, out) in out.chunks_exact_mut(width).take(self.k).enumerate() {
                data.read(isa, start + x * self.step, &mut out[..count]);
            }
        } else if self.step == 1 && width == 1 {
            data.read(isa, start, &mut out[..self.k]);
        } else if self.step == 1 && count <= MAX_LINES {
            // Reads a few steps of all lines at a time, so that the panel is written in order.
            let mut block = [[0.0; CHUNK]; MAX_LINES];
            for (c, out) in out[..self.k * width].chunks_mut(CHUNK * width).enumerate() {
                let steps = CHUNK.min(self.k - c * CHUNK);
                for (i, line) in block[..count].iter_mut().enumerate() {
                    data.read(isa, start + i * self.line + c * CHUNK, &mut line[..steps]);
                }
                for (x, out) in out.chunks_exact_mut(width).enumerate() {
                    out.iter_mut().zip(&block[..count]).for_each(|(o, line)| *o = line[x]);
                }
            }
        } else {
            for (x, out) in out.chunks_exact_mut(width).take(self.k).enumerate() {
                for (i, out) in out[..count].iter_mut().enumerate() {
                    *out = data.get(start + x * self.step + i * self.line);
                }
            }
        }
    }
}
