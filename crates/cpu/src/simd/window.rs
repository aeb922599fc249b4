//! What convolutions read from their planes (see `kernels/conv/conv.rs`): for kernel offset `t` and output position
//! `p`, the element `taps[t] + p`. Consecutive positions of a line are consecutive elements.

use smallvec::SmallVec;

use super::gemm::Panels;
use super::{Isa, Op, Simd};

/// The input of a convolution as a matrix, kernel offsets × positions (im2col), whose panels are made only when needed.
#[derive(Clone, Copy, Debug)]
pub struct Gather<'a> {
    /// The input's planes, in which consecutive positions are consecutive elements.
    pub data: &'a [f32],
    /// Elements from the input of one product of the batch to that of the next.
    pub batch: usize,
    /// For each kernel offset (a row of the matrix), where it reads: an index relative to the position.
    pub taps: &'a [usize],
    /// The largest of `taps`.
    pub last_tap: usize,
    /// The number of positions in a line.
    pub line: usize,
    /// The index in `data` at which each line of positions starts.
    pub starts: &'a [usize],
}

impl Panels for Gather<'_> {
    fn pack(&self, isa: Isa, batch: usize, first: usize, count: usize, width: usize, out: &mut [f32]) {
        let mut runs: SmallVec<[Run; 8]> = SmallVec::new();
        let mut at = 0;
        while at < count {
            let (line, x) = ((first + at) / self.line, (first + at) % self.line);
            let len = (self.line - x).min(count - at);
            runs.push(Run { from: self.starts[line] + x, to: at, len });
            at += len;
        }
        let data = &self.data[batch * self.batch..];
        let lanes = isa.lanes();
        let end = runs.iter().map(|r| r.from + r.len.next_multiple_of(lanes)).max().unwrap_or(0);
        let room = self.taps.len() * width + lanes;
        if self.last_tap + end <= data.len() && room <= out.len() {
            isa.run(Copy { data, taps: self.taps, runs: &runs, width, out });
        } else {
            for (tap, out) in self.taps.iter().zip(out.chunks_exact_mut(width)) {
                for run in &runs {
                    out[run.to..run.to + run.len].copy_from_slice(&data[tap + run.from..][..run.len]);
                }
            }
        }
    }
}

/// Contiguous elements to copy.
struct Run {
    from: usize,
    to: usize,
    len: usize,
}

/// Copies runs in whole vectors. It writes past the end of a run; the next run or the next row overwrites that.
/// Private, because [`Gather::pack`] has to check that `data` and `out` are long enough.
struct Copy<'a> {
    data: &'a [f32],
    taps: &'a [usize],
    runs: &'a [Run],
    width: usize,
    out: &'a mut [f32],
}

impl Op for Copy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let out = self.out.as_mut_ptr();
        for (i, tap) in self.taps.iter().enumerate() {
            for run in self.runs {
                for x in (0..run.len).step_by(S::LANES) {
                    // SAFETY: the largest kernel offset plus the end of the run, rounded up to whole vectors, is inside
                    // `data`. A run ends at `width` at most, so that a write ends less than a vector past row `i`;
                    // `out` has room for that after the last row.
                    unsafe {
                        let from = self.data.as_ptr().add(tap + run.from + x);
                        s.store(out.add(i * self.width + run.to + x), s.load(from));
                    }
                }
            }
        }
    }
}

/// The length of a result of [`weigh`] must be a multiple of this.
pub const WEIGH: usize = 64;

/// Computes a convolution of one channel: `out[i] = start + Σ weights[t] · data[taps[t] + i]`.
///
/// # Panics
/// The length of `out` is not a multiple of [`WEIGH`], there are more taps than weights, or `data` is too short.
pub fn weigh(isa: Isa, data: &[f32], taps: &[usize], weights: &[f32], start: f32, out: &mut [f32]) {
    let last = taps.iter().copied().max().unwrap_or(0);
    assert!(out.len().is_multiple_of(WEIGH) && taps.len() <= weights.len());
    assert!(last.checked_add(out.len()).is_some_and(|end| end <= data.len()));
    isa.run(Weigh { data, taps, weights, start, out });
}

/// Private, because [`weigh`] has to check the lengths.
struct Weigh<'a> {
    data: &'a [f32],
    taps: &'a [usize],
    weights: &'a [f32],
    start: f32,
    out: &'a mut [f32],
}

impl Op for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for i in (0..self.out.len()).step_by(4 * S::LANES) {
            let mut acc = [s.splat(self.start); 4];
            for (tap, weight) in self.taps.iter().zip(self.weights) {
                let weight = s.splat(*weight);
                for (j, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: the largest kernel offset plus the length of `out`, a multiple of four vectors, is inside
                    // `data`.
                    let x = unsafe { s.load(self.data.as_ptr().add(tap + i + j * S::LANES)) };
                    *acc = s.fma(x, weight, *acc);
                }
            }
            for (j, acc) in acc.into_iter().enumerate() {
                // SAFETY: the length of `out` is a multiple of four vectors.
                unsafe { s.store(self.out.as_mut_ptr().add(i + j * S::LANES), acc) };
            }
        }
    }
}
