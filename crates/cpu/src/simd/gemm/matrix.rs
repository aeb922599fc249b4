//! Matrices in memory, and how they are packed into panels.

use half::f16;

use super::{Isa, Panels};
use crate::simd::isa::MAX_LANES;
use crate::simd::{Op, Simd, convert};

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
    /// The number of elements.
    fn elements(self) -> usize;
    /// Reads a vector of elements.
    ///
    /// # Safety
    /// There must be `LANES` elements from index `at` on.
    unsafe fn load<S: Simd>(self, s: S, at: usize) -> S::F;
    /// Reads the first `n` elements of a vector; the others are zero.
    ///
    /// # Safety
    /// There must be `n` elements from index `at` on; `n` is at most `LANES`.
    unsafe fn load_part<S: Simd>(self, s: S, at: usize, n: usize) -> S::F;

    /// Reads every second element from index `at` on.
    fn read_second(self, isa: Isa, at: usize, out: &mut [f32]) {
        assert!(out.is_empty() || at + 2 * out.len() - 1 <= self.elements());
        isa.run(Second { from: self, at, out });
    }
}

/// Private, because [`Source::read_second`] has to check the length.
struct Second<'a, T> {
    from: T,
    at: usize,
    out: &'a mut [f32],
}

impl<T: Source> Op for Second<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Second { from, at, out } = self;
        // The last element has no neighbour to its right.
        let whole = out.len().saturating_sub(1) / S::LANES * S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            // SAFETY: two vectors from `at + 2 * i` on end at `at + 2 * whole` at most, which is within the source;
            // `out` has a vector from `i` on.
            unsafe {
                let (a, b) = (from.load(s, at + 2 * i), from.load(s, at + 2 * i + S::LANES));
                s.store(out.as_mut_ptr().add(i), s.evens(a, b));
            }
        }
        for (i, o) in out.iter_mut().enumerate().skip(whole) {
            *o = from.get(at + 2 * i);
        }
    }
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
    #[inline(always)]
    fn elements(self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(self, s: S, at: usize) -> S::F {
        // SAFETY: as the caller vouches.
        unsafe { s.load(self.0.as_ptr().add(at)) }
    }
    #[inline(always)]
    unsafe fn load_part<S: Simd>(self, s: S, at: usize, n: usize) -> S::F {
        // SAFETY: as the caller vouches.
        unsafe { s.load_part(self.0.as_ptr().add(at), n) }
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
    #[inline(always)]
    fn elements(self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(self, s: S, at: usize) -> S::F {
        // SAFETY: as the caller vouches.
        unsafe { s.load_f16(self.0.as_ptr().add(at)) }
    }
    #[inline(always)]
    unsafe fn load_part<S: Simd>(self, s: S, at: usize, n: usize) -> S::F {
        // SAFETY: as the caller vouches.
        unsafe { s.load_part_f16(self.0.as_ptr().add(at), n) }
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
            let mut done = 0;
            if width.is_multiple_of(isa.lanes()) {
                // Whole vectors may reach past the end of the source in the last steps.
                let reach = count.next_multiple_of(isa.lanes());
                let end = data.elements().checked_sub(start + reach);
                done =
                    end.map_or(0, |end| end / self.step.max(1) + 1).min(self.k).min(out.len() / width.max(1));
                isa.run(CopyLines { from: data, start, step: self.step, count, width, steps: done, out });
            }
            let out = &mut out[done * width..];
            let start = start + done * self.step;
            for (x, out) in out.chunks_exact_mut(width).take(self.k - done).enumerate() {
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

/// Copies consecutive elements of each step to a panel, in whole vectors. Private, because `pack` has to check that
/// `from` and `out` are long enough for `steps` steps.
struct CopyLines<'a, T> {
    from: T,
    start: usize,
    step: usize,
    count: usize,
    width: usize,
    steps: usize,
    out: &'a mut [f32],
}

impl<T: Source> Op for CopyLines<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let CopyLines { from, start, step, count, width, steps, out } = self;
        for x in 0..steps {
            for i in (0..count).step_by(S::LANES) {
                // SAFETY: `pack` made sure that the source has whole vectors up to `count` in each of the steps. The
                // width is a multiple of a vector and at least `count`, and `out` has `steps` times the width.
                unsafe { s.store(out.as_mut_ptr().add(x * width + i), from.load(s, start + x * step + i)) };
            }
        }
    }
}
