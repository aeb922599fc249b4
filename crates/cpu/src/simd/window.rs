//! What convolutions read from their planes (see `kernels/conv/conv.rs`): for kernel offset `t` and output position
//! `p`, the element `taps[t] + p`. Consecutive positions of a line are consecutive elements.

use smallvec::SmallVec;

use super::gemm::{Panels, Source};
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

/// Which elements of a channel go where in its planes.
#[derive(Clone, Debug)]
pub struct Layout {
    lines: Vec<Line>,
    /// Elements from one element of a line to the next in the channel; in the planes they are neighbours.
    stride: usize,
    /// Elements of the channel, and of its planes, up to the last one of any line.
    reach: [usize; 2],
}

/// A part of a line of planes that is not padding.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Where it starts in the channel.
    pub from: usize,
    /// Where it starts in the planes.
    pub to: usize,
    /// Its elements, at least one.
    pub len: usize,
}

impl Layout {
    /// Lines whose elements are `stride` apart in the channel.
    pub fn new(lines: Vec<Line>, stride: usize) -> Layout {
        let reads = lines.iter().map(|line| line.from + line.len.saturating_sub(1) * stride + 1);
        let writes = lines.iter().map(|line| line.to + line.len);
        let reach = [reads.max().unwrap_or(0), writes.max().unwrap_or(0)];
        Layout { lines, stride, reach }
    }

    /// Fills the planes of the channel that starts at element `start`. Leaves what is padding as it is.
    ///
    /// # Panics
    /// A slice is too short: a bug of the kernel.
    pub fn fill<T: Source>(&self, isa: Isa, x: T, start: usize, planes: &mut [f32]) {
        self.check(x, start, planes);
        isa.run(Fill { layout: self, x, start, planes });
    }

    fn check<T: Source>(&self, x: T, start: usize, planes: &[f32]) {
        assert!(start + self.reach[0] <= x.elements() && self.reach[1] <= planes.len());
    }
}

/// Private, because of [`Layout::check`].
struct Fill<'a, T> {
    layout: &'a Layout,
    x: T,
    start: usize,
    planes: &'a mut [f32],
}

impl<T: Source> Op for Fill<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Fill { layout: Layout { lines, stride, .. }, x, start, planes } = self;
        for &Line { from, to, len } in lines {
            let from = start + from;
            let out = planes[to..to + len].as_mut_ptr();
            let mut i = 0;
            match stride {
                1 => {
                    // SAFETY: `check` made sure that the channel has `len` elements from `from` on; `out` has as many.
                    unsafe {
                        while i + S::LANES <= len {
                            s.store(out.add(i), x.load(s, from + i));
                            i += S::LANES;
                        }
                        if i < len && len >= S::LANES {
                            let last = len - S::LANES;
                            s.store(out.add(last), x.load(s, from + last));
                        } else if i < len {
                            s.store_part(out, len, x.load_part(s, from, len));
                        }
                    }
                }
                2 => {
                    // SAFETY: `check` made sure that the channel has `2 * len - 1` elements from `from` on; `out` has
                    // `len`. The last element has no neighbour to its right.
                    unsafe {
                        while i + S::LANES < len {
                            let (a, b) = (x.load(s, from + 2 * i), x.load(s, from + 2 * i + S::LANES));
                            s.store(out.add(i), s.evens(a, b));
                            i += S::LANES;
                        }
                        let left = 2 * (len - i) - 1;
                        let first = left.min(S::LANES);
                        let a = x.load_part(s, from + 2 * i, first);
                        let b = x.load_part(s, from + 2 * i + first, left - first);
                        s.store_part(out.add(i), len - i, s.evens(a, b));
                    }
                }
                _ => {
                    for (i, o) in planes[to..to + len].iter_mut().enumerate() {
                        *o = x.get(from + i * stride);
                    }
                }
            }
        }
    }
}

/// Elements that a convolution of one channel may read past the last one that it needs.
pub const REACH: usize = MAX_LANES;

/// A convolution with one input channel per group. Element `x` of line `y` of a channel's result is
/// `bias + Σ weights[t] · planes[taps[t] + lines[y] + x]`, one chain of multiply-adds in the order of the taps.
#[derive(Clone, Debug)]
pub struct Depthwise {
    layout: Layout,
    taps: Vec<usize>,
    lines: Vec<usize>,
    width: usize,
    reach: usize,
}

/// A channel of a result.
#[derive(Clone, Copy, Debug)]
pub struct Channel<'a> {
    /// The element at which its input starts.
    pub start: usize,
    /// A number for each kernel offset.
    pub weights: &'a [f32],
    /// The start of its sums.
    pub bias: f32,
}

impl Depthwise {
    /// `taps` are the kernel offsets, `lines` the starts of the lines of `width` positions, both in planes of this layout.
    pub fn new(layout: Layout, taps: Vec<usize>, lines: Vec<usize>, width: usize) -> Depthwise {
        let largest = |x: &[usize]| x.iter().copied().max().unwrap_or(0);
        let reach = largest(&taps) + largest(&lines) + width + REACH;
        Depthwise { layout, taps, lines, width, reach }
    }

    /// Computes channels, whose results follow each other in `out`. `planes` is memory for one channel, in which all
    /// padding is zero; it has [`REACH`] elements more than the planes.
    ///
    /// # Panics
    /// A slice is too short: a bug of the kernel.
    pub fn run<T: Source>(
        &self,
        isa: Isa,
        x: T,
        channels: &[Channel<'_>],
        planes: &mut [f32],
        out: &mut [f32],
    ) {
        for channel in channels {
            self.layout.check(x, channel.start, planes);
            assert!(channel.weights.len() >= self.taps.len());
        }
        assert!(self.reach <= planes.len() && out.len() == channels.len() * self.lines.len() * self.width);
        isa.run(Channels { of: self, x, channels, planes, out });
    }
}

/// Private, because [`Depthwise::run`] has to check the lengths.
struct Channels<'a, T> {
    of: &'a Depthwise,
    x: T,
    channels: &'a [Channel<'a>],
    planes: &'a mut [f32],
    out: &'a mut [f32],
}

impl<T: Source> Op for Channels<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Channels { of: Depthwise { layout, taps, lines, width, .. }, x, channels, planes, out } = self;
        let positions = lines.len() * width;
        if positions == 0 {
            return;
        }
        for (channel, out) in channels.iter().zip(out.chunks_exact_mut(positions)) {
            Fill { layout, x, start: channel.start, planes: &mut *planes }.run(s);
            let data = planes.as_ptr();
            Weigh { data, taps, lines, weights: channel.weights, start: channel.bias, width: *width, out }
                .run(s);
        }
    }
}

/// Private, because [`Depthwise::run`] has to check the lengths.
struct Weigh<'a> {
    data: *const f32,
    taps: &'a [usize],
    lines: &'a [usize],
    weights: &'a [f32],
    start: f32,
    width: usize,
    out: &'a mut [f32],
}

impl Weigh<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (width, lines) = (self.width, self.lines.len());
        // Enough sums at once that multiply-adds do not wait for each other.
        let mut line = 0;
        while line < lines {
            let left = lines - line;
            line += match width.div_ceil(S::LANES) {
                1 if left >= 7 => self.part::<S, 7, 1>(s, line, 0),
                1 if left >= 4 => self.part::<S, 4, 1>(s, line, 0),
                1 if left >= 2 => self.part::<S, 2, 1>(s, line, 0),
                1 => self.part::<S, 1, 1>(s, line, 0),
                2 if left >= 4 => self.part::<S, 4, 2>(s, line, 0),
                2 if left >= 2 => self.part::<S, 2, 2>(s, line, 0),
                2 => self.part::<S, 1, 2>(s, line, 0),
                3 if left >= 2 => self.part::<S, 2, 3>(s, line, 0),
                3 => self.part::<S, 1, 3>(s, line, 0),
                4 if left >= 2 => self.part::<S, 2, 4>(s, line, 0),
                _ => {
                    for x in (0..width).step_by(4 * S::LANES) {
                        match (width - x).div_ceil(S::LANES) {
                            1 => self.part::<S, 1, 1>(s, line, x),
                            2 => self.part::<S, 1, 2>(s, line, x),
                            3 => self.part::<S, 1, 3>(s, line, x),
                            _ => self.part::<S, 1, 4>(s, line, x),
                        };
                    }
                    1
                }
            };
        }
    }

    /// Computes `N` vectors of `LINES` lines from `x` on, and returns how many lines these are. The last vector may reach
    /// past the end of its line; the next line, which is computed later, overwrites that.
    #[inline(always)]
    fn part<S: Simd, const LINES: usize, const N: usize>(&mut self, s: S, line: usize, x: usize) -> usize {
        let mut sums = [[s.splat(self.start); N]; LINES];
        let mut starts = [0; LINES];
        starts.copy_from_slice(&self.lines[line..line + LINES]);
        let mut tap = 0;
        while tap < self.taps.len() {
            let weight = s.splat(self.weights[tap]);
            let offset = self.taps[tap] + x;
            for (sums, start) in sums.iter_mut().zip(&starts) {
                for (j, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: `Depthwise::run` checked that there is more than a vector beyond the last element of any
                    // line, in which the last of the `N` vectors begins.
                    let from = unsafe { s.load(self.data.add(offset + start + j * S::LANES)) };
                    *sum = s.fma(from, weight, *sum);
                }
            }
            tap += 1;
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, &sum) in sums.iter().enumerate() {
                let at = (line + i) * self.width + x + j * S::LANES;
                let left = self.out.len() - at;
                // SAFETY: the vector, or what is left of it, is within `out`.
                unsafe {
                    let out = self.out.as_mut_ptr().add(at);
                    if left >= S::LANES {
                        s.store(out, sum);
                    } else {
                        s.store_part(out, left, sum);
                    }
                }
            }
        }
        LINES
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::simd::gemm::{F16, F32};

    /// Small halves: their sums are exact.
    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + seed * 104_729) / 3 % 9) as f32 / 2.0 - 2.0).collect()
    }

    #[test]
    fn channels_on_every_instruction_set() {
        let height = 9;
        for (isa, width) in
            Isa::available().into_iter().flat_map(|isa| [1, 5, 7, 16, 30, 47, 64, 130].map(|w| (isa, w)))
        {
            // 3 × 3 with a padding of one, over two channels.
            let pitch = width + 2;
            let line = |y| Line { from: y * width, to: (y + 1) * pitch + 1, len: width };
            let layout = Layout::new((0..height).map(line).collect(), 1);
            let taps: Vec<usize> = (0..9).map(|t| t / 3 * pitch + t % 3).collect();
            let product = Depthwise::new(layout, taps, (0..height).map(|y| y * pitch).collect(), width);
            let size = height * width;
            let (x, weights) = (numbers(2 * size, 1), numbers(18, 2));
            let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
            let channels =
                [0, 1].map(|c| Channel { start: c * size, weights: &weights[c * 9..], bias: c as f32 });
            let mut planes = vec![0.0; (height + 2) * pitch + REACH];
            let mut out = [vec![f32::NAN; 2 * size], vec![f32::NAN; 2 * size]];
            product.run(isa, F32(&x), &channels, &mut planes, &mut out[0]);
            product.run(isa, F16(&halves), &channels, &mut planes, &mut out[1]);
            for (i, (a, b)) in out[0].iter().zip(&out[1]).enumerate() {
                let (c, y, z) = (i / size, i / width % height, i % width);
                let mut want = c as f32;
                for t in 0..9 {
                    let (iy, iz) = ((y + t / 3).wrapping_sub(1), (z + t % 3).wrapping_sub(1));
                    if iy < height && iz < width {
                        want += x[c * size + iy * width + iz] * weights[c * 9 + t];
                    }
                }
                assert_eq!([*a, *b], [want; 2], "{isa:?} {width} at {i}");
            }
        }
    }

    #[test]
    fn strided_lines_on_every_instruction_set() {
        for (isa, stride) in Isa::available().into_iter().flat_map(|isa| [1, 2, 3].map(|s| (isa, s))) {
            for len in 1..70 {
                // The last line ends with the source.
                let x = numbers(2 + 2 * ((len - 1) * stride + 1), len);
                let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
                let lines =
                    [Line { from: 0, to: 1, len }, Line { from: (len - 1) * stride + 2, to: len + 3, len }];
                let layout = Layout::new(lines.to_vec(), stride);
                let mut want = vec![-7.0; 2 * len + 5];
                for Line { from, to, len } in lines {
                    (0..len).for_each(|i| want[to + i] = x[1 + from + i * stride]);
                }
                let mut planes = vec![-7.0; 2 * len + 5];
                layout.fill(isa, F32(&x), 1, &mut planes);
                assert_eq!(planes, want, "{isa:?} {stride} {len}");
                planes.fill(-7.0);
                layout.fill(isa, F16(&halves), 1, &mut planes);
                assert_eq!(planes, want, "{isa:?} {stride} {len}");
            }
        }
    }
}
