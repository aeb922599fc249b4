//! What convolutions read from their planes (see `kernels/conv/conv.rs`): for kernel offset `t` and output position
//! `p`, the element `taps[t] + p`. Consecutive positions of a line are consecutive elements.

use smallvec::SmallVec;

use super::gemm::Panels;
use super::{Isa, MAX_LANES, Op, Simd};

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

/// Elements that [`weigh`] may read past the last one that it needs.
pub const REACH: usize = MAX_LANES;

/// Computes a convolution of one channel. Element `x` of line `y` of `out` is
/// `start + Σ weights[t] · data[taps[t] + lines[y] + x]`, one chain of multiply-adds in the order of the taps. `out` has
/// `width` elements for each of the `lines`.
///
/// # Panics
/// There are more taps than weights, or a slice is too short; `data` must have [`REACH`] elements more than are needed.
pub fn weigh(
    isa: Isa,
    data: &[f32],
    [taps, lines]: [&[usize]; 2],
    weights: &[f32],
    start: f32,
    width: usize,
    out: &mut [f32],
) {
    let largest = |x: &[usize]| x.iter().copied().max().unwrap_or(0);
    assert!(taps.len() <= weights.len() && out.len() == lines.len() * width);
    assert!(largest(taps) + largest(lines) + width + REACH <= data.len());
    isa.run(Weigh { data, taps, lines, weights, start, width, out });
}

/// Private, because [`weigh`] has to check the lengths.
struct Weigh<'a> {
    data: &'a [f32],
    taps: &'a [usize],
    lines: &'a [usize],
    weights: &'a [f32],
    start: f32,
    width: usize,
    out: &'a mut [f32],
}

impl Op for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let width = self.width;
        if width == 0 {
            return;
        }
        let mut line = 0;
        while line < self.lines.len() {
            if width <= S::LANES && line + 4 <= self.lines.len() {
                self.part::<S, 4, 1>(s, line, 0);
                line += 4;
                continue;
            }
            let mut x = 0;
            while x < width {
                match (width - x).div_ceil(S::LANES) {
                    1 => self.part::<S, 1, 1>(s, line, x),
                    2 => self.part::<S, 1, 2>(s, line, x),
                    3 => self.part::<S, 1, 3>(s, line, x),
                    _ => self.part::<S, 1, 4>(s, line, x),
                }
                x += 4 * S::LANES;
            }
            line += 1;
        }
    }
}

impl Weigh<'_> {
    /// Computes `N` vectors of `LINES` lines from `x` on. The last vector may reach past the end of its line; the next
    /// line overwrites that.
    #[inline(always)]
    fn part<S: Simd, const LINES: usize, const N: usize>(&mut self, s: S, line: usize, x: usize) {
        let mut sums = [[s.splat(self.start); N]; LINES];
        let data = self.data.as_ptr();
        for (tap, weight) in self.taps.iter().zip(self.weights) {
            let weight = s.splat(*weight);
            for (sums, start) in sums.iter_mut().zip(&self.lines[line..]) {
                for (j, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: `weigh` checked that `data` has more than a vector beyond the last element of any line,
                    // in which the last of the `N` vectors begins.
                    *sum = s.fma(unsafe { s.load(data.add(tap + start + x + j * S::LANES)) }, weight, *sum);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, &sum) in sums.iter().enumerate() {
                let at = (line + i) * self.width + x + j * S::LANES;
                if at + S::LANES <= self.out.len() {
                    // SAFETY: the vector is within `out`.
                    unsafe { s.store(self.out.as_mut_ptr().add(at), sum) };
                } else {
                    let mut last = [0.0; MAX_LANES];
                    // SAFETY: `last` has at least a vector.
                    unsafe { s.store(last.as_mut_ptr(), sum) };
                    let out = &mut self.out[at..];
                    out.copy_from_slice(&last[..out.len()]);
                }
            }
        }
    }
}
