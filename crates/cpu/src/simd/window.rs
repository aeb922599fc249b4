//! What convolutions read under their windows: elements at a table of offsets, for runs of positions that lie next to
//! each other.

use smallvec::SmallVec;

use super::gemm::Panels;
use super::{Isa, Op, Simd};

/// The input of a convolution as a matrix, taps × positions, of which panels are made when they are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Gather<'a> {
    /// The input, laid out so that next positions are next elements.
    pub data: &'a [f32],
    /// Where product number b of a batch starts: at `b * batch`.
    pub batch: usize,
    /// The offset of each row of the matrix, relative to the position.
    pub taps: &'a [usize],
    /// The largest of `taps`.
    pub last_tap: usize,
    /// Positions of a line.
    pub line: usize,
    /// Where each line of positions starts.
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

/// Elements that lie next to each other.
struct Run {
    from: usize,
    to: usize,
    len: usize,
}

/// Copies runs in whole vectors. What it writes behind a run, the next run or the next tap overwrites. Private:
/// [`Gather::pack`] has checked that `data` and `out` are long enough.
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
                    // SAFETY: the largest tap and the end of the run, rounded up to whole vectors, are inside of
                    // `data`. A run ends at most at `width`, so that a write ends less than a vector behind row `i`;
                    // `out` has room for that behind the last row.
                    unsafe {
                        let from = self.data.as_ptr().add(tap + run.from + x);
                        s.store(out.add(i * self.width + run.to + x), s.load(from));
                    }
                }
            }
        }
    }
}

/// The lengths of results of [`weigh`] are multiples of this.
pub const WEIGH: usize = 64;

/// `out[i] = start + Σ weights[t] · data[taps[t] + i]`: a convolution of one channel.
///
/// # Panics
/// The length of `out` is not a multiple of [`WEIGH`], there are more taps than weights, or `data` is too short.
pub fn weigh(isa: Isa, data: &[f32], taps: &[usize], weights: &[f32], start: f32, out: &mut [f32]) {
    let last = taps.iter().copied().max().unwrap_or(0);
    assert!(out.len().is_multiple_of(WEIGH) && taps.len() <= weights.len());
    assert!(last.checked_add(out.len()).is_some_and(|end| end <= data.len()));
    isa.run(Weigh { data, taps, weights, start, out });
}

/// Private: [`weigh`] has checked the lengths.
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
                    // SAFETY: the largest tap plus the length of `out`, a multiple of four vectors, is inside of
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
