//! Packs operands for tiles: splits numbers into planes.
//!
//! An operand that is known in advance is only put in order ([`order_rows`], [`order_columns`]): it stays as small as it
//! was, and [`expand`] splits the part that is needed next.
//!
//! A panel of `SIDE` rows of A (or columns of B) is a sequence of steps of `DEPTH` numbers along k; a step is a sequence
//! of planes; a plane is two tiles of 16 lines of 64 bytes. Tiles take pairs of numbers along k. Those of a step are not
//! neighbours: pair `i` has the numbers `i` and `i + 16`, which vectors can pair without a shuffle.
//!
//! ```text
//! A: tile 0 has rows 0 to 15, tile 1 rows 16 to 31; line r is row r: pair 0, pair 1, … pair 15
//! B: tile 0 has columns 0 to 15, tile 1 columns 16 to 31; line r is pair r: column 0, column 1, … column 15
//! ```
//!
//! Ordered in advance, a step is a sequence of the 32 lines of a plane, each as the 16 first numbers of its pairs and the 16
//! second ones.
//!
//! Numbers beyond k are zero. Rows and columns beyond the operand may hold anything: no other row or column sees them.

use std::sync::atomic::{AtomicU32, Ordering};

use half::f16;
use smallvec::SmallVec;

use super::{DEPTH, PLANE, Planes, SIDE, View};
use crate::Pool;
use crate::simd::gemm::{F32, Panels, Source};
use crate::simd::{Isa, MAX_LANES, Op, Simd};

/// Pairs in a step, lines in a tile, numbers in a line of a plane.
const PAIRS: usize = DEPTH / 2;
/// Floats that have the size of a plane's line, and of a plane.
const LINE: usize = 16;
const PLANE_FLOATS: usize = PLANE / 4;

/// Splits a panel of `SIDE` columns: for each of the `k` steps, `SIDE` numbers.
///
/// # Panics
/// A slice is too short: a bug of the caller.
pub fn columns(isa: Isa, planes: Planes, k: usize, panel: &[f32], out: &mut [u8]) {
    let out: &mut [f32] = bytemuck::cast_slice_mut(&mut out[..planes.panel(k)]);
    assert!(panel.len() >= k * SIDE);
    match planes {
        Planes::Two => isa.run(SplitColumns::<2> { k, panel, out }),
        Planes::Three => isa.run(SplitColumns::<3> { k, panel, out }),
    }
}

/// Private, because [`columns`] has to check the lengths.
struct SplitColumns<'a, const PLANES: usize> {
    k: usize,
    panel: &'a [f32],
    out: &'a mut [f32],
}

impl<const PLANES: usize> Op for SplitColumns<'_, PLANES> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SplitColumns { k, panel, out } = self;
        for (step, out) in out.chunks_exact_mut(PLANES * PLANE_FLOATS).enumerate() {
            for pair in 0..PAIRS {
                let [low, high] = [step * DEPTH + pair, step * DEPTH + pair + PAIRS];
                for column in (0..SIDE).step_by(S::LANES) {
                    let load = |row: usize| {
                        if row < k {
                            // SAFETY: `columns` checked that the panel has `SIDE` numbers for each of the `k` steps, and
                            // the lanes divide `SIDE`.
                            unsafe { s.load(panel.as_ptr().add(row * SIDE + column)) }
                        } else {
                            s.splat(0.0)
                        }
                    };
                    let at = column / LINE * (PLANE_FLOATS / 2) + pair * LINE + column % LINE;
                    // SAFETY: `at` and a vector are within the first plane, and `out` has `PLANES` of them.
                    let to = unsafe { out.as_mut_ptr().add(at) };
                    // SAFETY: as above.
                    unsafe { store::<S, PLANES>(s, load(low), load(high), to, PLANE_FLOATS) };
                }
            }
        }
    }
}

/// Splits pairs of numbers and stores their planes, `apart` floats apart.
///
/// # Safety
/// `out` must be valid for writes of a vector in each plane.
#[inline(always)]
unsafe fn store<S: Simd, const PLANES: usize>(
    s: S,
    mut low: S::F,
    mut high: S::F,
    out: *mut f32,
    apart: usize,
) {
    let (half, upper, lower) = (s.splat_int(0x8000), s.splat_int(!0xffff), s.splat_int(0xffff));
    for plane in 0..PLANES {
        // What is left in the last plane fits without rounding. A NaN stays one there: its bits are not rounded away.
        let round = |x: S::F| {
            let bits = s.to_bits(x);
            s.and_int(if plane + 1 < PLANES { s.add_int(bits, half) } else { bits }, upper)
        };
        let (a, b) = (round(low), round(high));
        let pair = s.or_int(s.and_int(s.shr::<16>(a), lower), b);
        // SAFETY: as the caller vouches.
        unsafe { s.store(out.add(plane * apart), s.bits_to_float(pair)) };
        low = s.sub(low, s.bits_to_float(a));
        high = s.sub(high, s.bits_to_float(b));
    }
}

/// Numbers of a step of a panel.
pub const STEP: usize = SIDE * DEPTH;

/// Orders a panel of `count` rows as [`expand`] reads it. `out` holds zeros, [`STEP`] for each step.
pub fn order_rows(from: &Strided<'_, F32<'_>>, batch: usize, first: usize, count: usize, out: &mut [f32]) {
    let start = from.starts.get(batch).copied().unwrap_or(0) + first * from.strides[0];
    for row in 0..count {
        for (step, out) in out.chunks_exact_mut(STEP).enumerate() {
            let left = DEPTH.min(from.k - step * DEPTH);
            let at = start + row * from.strides[0] + step * DEPTH * from.strides[1];
            if from.strides[1] == 1 {
                out[row * DEPTH..][..left].copy_from_slice(&from.data.0[at..at + left]);
                continue;
            }
            for (i, x) in out[row * DEPTH..][..left].iter_mut().enumerate() {
                *x = from.data.get(at + i * from.strides[1]);
            }
        }
    }
}

/// Orders a panel of `SIDE` columns, `SIDE` numbers for each of the `k` steps, as [`expand`] reads it.
pub fn order_columns(k: usize, panel: &[f32], out: &mut [f32]) {
    for (i, line) in panel.chunks_exact(SIDE).enumerate().take(k) {
        let (step, pair, half) = (i / DEPTH, i % PAIRS, i % DEPTH / PAIRS);
        for (tile, part) in line.chunks_exact(LINE).enumerate() {
            let at = step * STEP + (tile * PAIRS + pair) * DEPTH + half * PAIRS;
            out[at..at + LINE].copy_from_slice(part);
        }
    }
}

/// Splits steps of a panel of either operand, whose numbers were ordered in advance and start at index `at`.
///
/// # Panics
/// A slice is too short: a bug of the caller.
pub fn expand<T: Source>(isa: Isa, planes: Planes, from: T, at: usize, out: &mut [u8]) {
    let out: &mut [f32] = bytemuck::cast_slice_mut(out);
    let steps = out.len() / (planes.count() * PLANE_FLOATS);
    assert!(at + steps * STEP <= from.elements());
    match planes {
        Planes::Two => isa.run(Expand::<T, 2> { from, at, out }),
        Planes::Three => isa.run(Expand::<T, 3> { from, at, out }),
    }
}

/// Private, because [`expand`] has to check the lengths.
struct Expand<'a, T, const PLANES: usize> {
    from: T,
    at: usize,
    out: &'a mut [f32],
}

impl<T: Source, const PLANES: usize> Op for Expand<'_, T, PLANES> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Expand { from, at, out } = self;
        for (step, out) in out.chunks_exact_mut(PLANES * PLANE_FLOATS).enumerate() {
            for line in 0..SIDE {
                for pair in (0..PAIRS).step_by(S::LANES) {
                    let at = at + step * STEP + line * DEPTH + pair;
                    // SAFETY: `expand` checked that the source has `STEP` numbers for each step; the lanes divide the
                    // pairs, and the line is within the first of `PLANES` planes.
                    unsafe {
                        let (low, high) = (from.load(s, at), from.load(s, at + PAIRS));
                        let out = out.as_mut_ptr().add(line * LINE + pair);
                        store::<S, PLANES>(s, low, high, out, PLANE_FLOATS);
                    }
                }
            }
        }
    }
}

/// Splits the pairs of numbers of two lines: `len` elements of `from` from the two indices `at` on, or zeros. The planes
/// of the result are `pitch` floats apart.
///
/// # Panics
/// A slice is too short: a bug of the caller.
pub fn pair_lines<T: Source>(
    isa: Isa,
    planes: Planes,
    from: T,
    at: [Option<usize>; 2],
    len: usize,
    out: &mut [f32],
    pitch: usize,
) {
    assert!(out.len() >= (planes.count() - 1) * pitch + len);
    assert!(at.iter().flatten().all(|at| at + len <= from.elements()));
    match planes {
        Planes::Two => isa.run(PairLines::<T, 2> { from, at, len, out, pitch }),
        Planes::Three => isa.run(PairLines::<T, 3> { from, at, len, out, pitch }),
    }
}

/// Private, because [`pair_lines`] has to check the lengths.
struct PairLines<'a, T, const PLANES: usize> {
    from: T,
    at: [Option<usize>; 2],
    len: usize,
    out: &'a mut [f32],
    pitch: usize,
}

impl<T: Source, const PLANES: usize> Op for PairLines<'_, T, PLANES> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PairLines { from, at: [low, high], len, out, pitch } = self;
        let out = out.as_mut_ptr();
        let whole = len / S::LANES * S::LANES;
        let mut i = 0;
        while i < whole {
            // SAFETY: `pair_lines` checked that there is a vector at `i`, in the source and in each plane.
            unsafe {
                let load = |at: Option<usize>| match at {
                    Some(at) => from.load(s, at + i),
                    None => s.splat(0.0),
                };
                store::<S, PLANES>(s, load(low), load(high), out.add(i), pitch);
            }
            i += S::LANES;
        }
        if whole < len {
            // SAFETY: as above, for the elements that are left.
            unsafe {
                let load = |at: Option<usize>| match at {
                    Some(at) => from.load_part(s, at + whole, len - whole),
                    None => s.splat(0.0),
                };
                let mut last = [0.0; 3 * MAX_LANES];
                store::<S, PLANES>(s, load(low), load(high), last.as_mut_ptr(), MAX_LANES);
                for plane in 0..PLANES {
                    let x = s.load(last.as_ptr().add(plane * MAX_LANES));
                    s.store_part(out.add(plane * pitch + whole), len - whole, x);
                }
            }
        }
    }
}

/// Rows of an operand A, which are split task by task.
pub trait Rows: Sync {
    /// Splits a panel: `count` rows of product `batch`, from number `first` on.
    fn split(&self, isa: Isa, planes: Planes, batch: usize, first: usize, count: usize, out: &mut [u8]);
}

/// Rows whose `k` elements are `step` apart.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a, T> {
    /// The elements.
    pub data: T,
    /// The number of elements in a row.
    pub k: usize,
    /// Elements from one row to the next, and within a row from one to the next.
    pub strides: [usize; 2],
    /// The start of each matrix; if empty, there is one matrix, at 0.
    pub starts: &'a [usize],
}

impl<T: Source> Rows for Strided<'_, T> {
    fn split(&self, isa: Isa, planes: Planes, batch: usize, first: usize, count: usize, out: &mut [u8]) {
        let out: &mut [f32] = bytemuck::cast_slice_mut(&mut out[..planes.panel(self.k)]);
        let start = self.starts.get(batch).copied().unwrap_or(0) + first * self.strides[0];
        let reach = (count - 1) * self.strides[0] + self.k.saturating_sub(1) * self.strides[1] + 1;
        assert!(count <= SIDE && (self.k == 0 || start + reach <= self.data.elements()));
        match planes {
            Planes::Two => isa.run(SplitRows::<T, 2> { from: *self, start, count, out }),
            Planes::Three => isa.run(SplitRows::<T, 3> { from: *self, start, count, out }),
        }
    }
}

/// Private, because [`Strided::split`] has to check the lengths.
struct SplitRows<'a, T, const PLANES: usize> {
    from: Strided<'a, T>,
    start: usize,
    count: usize,
    out: &'a mut [f32],
}

impl<T: Source, const PLANES: usize> Op for SplitRows<'_, T, PLANES> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SplitRows { from: Strided { data, k, strides, .. }, start, count, out } = self;
        for (step, out) in out.chunks_exact_mut(PLANES * PLANE_FLOATS).enumerate() {
            for row in 0..count {
                let first = start + row * strides[0];
                let (at, left) = (first + step * DEPTH * strides[1], DEPTH.min(k - step * DEPTH));
                let mut rest = [0.0; DEPTH];
                let direct = left == DEPTH && strides[1] == 1;
                if !direct {
                    for (i, x) in rest[..left].iter_mut().enumerate() {
                        *x = data.get(at + i * strides[1]);
                    }
                }
                for pair in (0..PAIRS).step_by(S::LANES) {
                    // SAFETY: the lanes divide the pairs, and `split` checked that the row's elements are in `data`.
                    let load = |i: usize| unsafe {
                        if direct { data.load(s, at + i) } else { s.load(rest.as_ptr().add(i)) }
                    };
                    // SAFETY: a line of the first plane has room for all pairs, and `out` has `PLANES` of them.
                    unsafe {
                        let out = out.as_mut_ptr().add(row * LINE + pair);
                        store::<S, PLANES>(s, load(pair), load(pair + PAIRS), out, PLANE_FLOATS);
                    }
                }
            }
        }
    }
}

/// Splits pairs of numbers in place. The first third (or half) of `data` holds the first number of each pair, the second
/// one the second; afterwards each third (or half) is a plane of pairs.
///
/// # Panics
/// The length is not a multiple of the planes times 16: a bug of the caller.
pub fn pairs(isa: Isa, planes: Planes, data: &mut [f32]) {
    assert!(data.len().is_multiple_of(planes.count() * LINE));
    match planes {
        Planes::Two => isa.run(Pairs::<2>(data)),
        Planes::Three => isa.run(Pairs::<3>(data)),
    }
}

/// Private, because [`pairs`] has to check the length.
struct Pairs<'a, const PLANES: usize>(&'a mut [f32]);

impl<const PLANES: usize> Op for Pairs<'_, PLANES> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let apart = self.0.len() / PLANES;
        let data = self.0.as_mut_ptr();
        for i in (0..apart).step_by(S::LANES) {
            // SAFETY: a part is a multiple of 16 floats, which the lanes divide; there are at least two parts to read and
            // `PLANES` to write.
            unsafe {
                let (low, high) = (s.load(data.add(i)), s.load(data.add(apart + i)));
                store::<S, PLANES>(s, low, high, data.add(i), apart);
            }
        }
    }
}

/// An operand B that tasks split.
pub trait Columns: Sync {
    /// Splits a panel: `count` columns of product `batch`, from number `first` on. It may write up to 64 bytes past the
    /// panel, for which `out` has room. `scratch` has room for a panel of floats.
    #[expect(clippy::too_many_arguments, reason = "a panel of a product, from where to where")]
    fn split(
        &self,
        isa: Isa,
        planes: Planes,
        batch: usize,
        first: usize,
        count: usize,
        out: &mut [u8],
        scratch: &mut [f32],
    );
}

/// Columns that are first packed for vectors.
#[derive(Clone, Copy)]
pub struct Packing<'a> {
    /// Their source.
    pub panels: &'a dyn Panels,
    /// The numbers in a column.
    pub k: usize,
}

impl Columns for Packing<'_> {
    fn split(
        &self,
        isa: Isa,
        planes: Planes,
        batch: usize,
        first: usize,
        count: usize,
        out: &mut [u8],
        scratch: &mut [f32],
    ) {
        self.panels.pack(isa, batch, first, count, SIDE, scratch);
        columns(isa, planes, self.k, scratch, out);
    }
}

/// Columns whose elements are neighbours: element `c` of step `i` is at `i * stride + c` from the start of its matrix.
#[derive(Clone, Copy)]
pub struct Lines<'a, T> {
    /// The elements.
    pub data: T,
    /// The numbers in a column.
    pub k: usize,
    /// Elements from one step to the next.
    pub stride: usize,
    /// The start of each matrix; if empty, there is one matrix, at 0.
    pub starts: &'a [usize],
}

impl<T: Source> Columns for Lines<'_, T> {
    fn split(
        &self,
        isa: Isa,
        planes: Planes,
        batch: usize,
        first: usize,
        count: usize,
        out: &mut [u8],
        scratch: &mut [f32],
    ) {
        let Lines { data, k, stride, starts } = *self;
        let start = starts.get(batch).copied().unwrap_or(0) + first;
        if k > 0 && start + (k - 1) * stride + SIDE > data.elements() {
            for (i, line) in scratch.chunks_exact_mut(SIDE).take(k).enumerate() {
                data.read(isa, start + i * stride, &mut line[..count]);
            }
            return columns(isa, planes, k, scratch, out);
        }
        let out: &mut [f32] = bytemuck::cast_slice_mut(&mut out[..planes.panel(k)]);
        match planes {
            Planes::Two => isa.run(SplitLines::<T, 2> { data, k, stride, start, out }),
            Planes::Three => isa.run(SplitLines::<T, 3> { data, k, stride, start, out }),
        }
    }
}

/// Private, because [`Lines::split`] has to check the lengths.
struct SplitLines<'a, T, const PLANES: usize> {
    data: T,
    k: usize,
    stride: usize,
    start: usize,
    out: &'a mut [f32],
}

impl<T: Source, const PLANES: usize> Op for SplitLines<'_, T, PLANES> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SplitLines { data, k, stride, start, out } = self;
        for (step, out) in out.chunks_exact_mut(PLANES * PLANE_FLOATS).enumerate() {
            for pair in 0..PAIRS {
                let [low, high] = [step * DEPTH + pair, step * DEPTH + pair + PAIRS];
                for column in (0..SIDE).step_by(S::LANES) {
                    let load = |i: usize| {
                        if i < k {
                            // SAFETY: `split` checked that there are `SIDE` elements at each of the `k` steps.
                            unsafe { data.load(s, start + i * stride + column) }
                        } else {
                            s.splat(0.0)
                        }
                    };
                    let at = column / LINE * (PLANE_FLOATS / 2) + pair * LINE + column % LINE;
                    // SAFETY: `at` and a vector are within the first plane, and `out` has `PLANES` of them.
                    unsafe {
                        store::<S, PLANES>(s, load(low), load(high), out.as_mut_ptr().add(at), PLANE_FLOATS);
                    }
                }
            }
        }
    }
}

/// The input of a convolution whose channels have been split in pairs: a plane of pairs of numbers for each plane of each
/// pair of channels. A step along k is a kernel offset of `DEPTH` channels, so that tiles can be loaded from the planes, or
/// panels are mere copies.
#[derive(Clone, Copy, Debug)]
pub struct Paired<'a> {
    /// The planes, for each group, block of `DEPTH` channels, pair of channels, and plane of the split.
    pub data: &'a [f32],
    /// Floats from one plane to the next.
    pub pitch: usize,
    /// Blocks of channels in a group.
    pub blocks: usize,
    /// For each kernel offset, where it reads: an index relative to the position.
    pub taps: &'a [usize],
    /// The number of positions in a line.
    pub line: usize,
    /// The index in a plane at which each line of positions starts.
    pub starts: &'a [usize],
}

/// Positions that follow each other in a plane, and where they go in a line of a tile.
#[derive(Clone, Copy)]
struct Stretch {
    from: usize,
    to: usize,
    len: usize,
}

impl<'a> Paired<'a> {
    /// Floats of a group.
    fn per_group(&self, planes: Planes) -> usize {
        self.blocks * PAIRS * planes.count() * self.pitch
    }

    /// How tiles are loaded from the planes, and where each step along k starts.
    pub(super) fn steps(&self, planes: Planes) -> (View, Vec<usize>) {
        let plane = self.pitch * 4;
        let line = planes.count() * plane;
        let step = |block: usize, tap: &usize| block * PAIRS * line + tap * 4;
        let steps = (0..self.blocks).flat_map(|b| self.taps.iter().map(move |tap| step(b, tap))).collect();
        (View { line, second: LINE * 4, plane }, steps)
    }

    /// The planes of a group, and all that follows.
    pub(super) fn group(&self, group: usize, planes: Planes) -> &'a [f32] {
        &self.data[group * self.per_group(planes)..]
    }
}

impl Columns for Paired<'_> {
    fn split(
        &self,
        isa: Isa,
        planes: Planes,
        batch: usize,
        first: usize,
        count: usize,
        out: &mut [u8],
        _: &mut [f32],
    ) {
        let halves = [0, 1].map(|half| {
            let mut stretches: SmallVec<[Stretch; 8]> = SmallVec::new();
            let end = count.min((half + 1) * LINE);
            let mut at = half * LINE;
            while at < end {
                let (line, x) = ((first + at) / self.line, (first + at) % self.line);
                let len = (self.line - x).min(end - at);
                stretches.push(Stretch { from: self.starts[line] + x, to: at - half * LINE, len });
                at += len;
            }
            stretches
        });
        let per_group = self.per_group(planes);
        let data = self.group(batch, planes);
        let floats = self.blocks * self.taps.len() * planes.count() * PLANE_FLOATS;
        let out: &mut [f32] = bytemuck::cast_slice_mut(&mut out[..floats * 4 + 64]);
        let reach = halves.iter().flatten().map(|s| s.from + s.len.next_multiple_of(LINE)).max().unwrap_or(0);
        let last = self.taps.iter().max().copied().unwrap_or(0);
        assert!(per_group.saturating_sub(self.pitch) + last + reach <= data.len());
        isa.run(CopyPairs { from: *self, data, planes: planes.count(), halves: &halves, out });
    }
}

/// Private, because [`Paired::split`] has to check the lengths.
struct CopyPairs<'a> {
    from: Paired<'a>,
    data: &'a [f32],
    planes: usize,
    halves: &'a [SmallVec<[Stretch; 8]>; 2],
    out: &'a mut [f32],
}

impl Op for CopyPairs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let CopyPairs { from: Paired { pitch, blocks, taps, .. }, data, planes, halves, out } = self;
        let mut to = out.as_mut_ptr();
        for block in 0..blocks {
            for tap in taps {
                for plane in 0..planes {
                    for stretches in halves {
                        for pair in 0..PAIRS {
                            let start = ((block * PAIRS + pair) * planes + plane) * pitch + tap;
                            for stretch in stretches {
                                for x in (0..stretch.len).step_by(S::LANES) {
                                    // SAFETY: `split` checked that the last plane, kernel offset and stretch, rounded up
                                    // to whole vectors, are inside `data`. A stretch ends at the end of its line at most,
                                    // so that less than a vector is written past it, where the next stretch or line
                                    // overwrites that; `out` has room for it after the last line.
                                    unsafe {
                                        let from = data.as_ptr().add(start + stretch.from + x);
                                        s.store(to.add(stretch.to + x), s.load(from));
                                    }
                                }
                            }
                            // SAFETY: `out` has a line for each pair, half, plane, kernel offset and block.
                            to = unsafe { to.add(LINE) };
                        }
                    }
                }
            }
        }
    }
}

/// An operand that was ordered for [`expand`], as panels for vectors.
#[derive(Clone, Copy, Debug)]
pub struct Joined<T> {
    /// The numbers.
    pub data: T,
    /// The rows (or columns) of a product of the batch, and the numbers of each.
    pub size: [usize; 2],
    /// Whether it is operand A.
    pub rows: bool,
    /// The kernel offsets, if the numbers are ordered as [`Paired`] has them, else zero.
    pub taps: usize,
}

impl<T: Source> Joined<T> {
    fn get(&self, batch: usize, line: usize, mut k: usize) -> f32 {
        let mut numbers = self.size[1];
        if let (Some(channel), Some(tap)) = (k.checked_div(self.taps), k.checked_rem(self.taps)) {
            k = (channel / DEPTH * self.taps + tap) * DEPTH + channel % DEPTH;
            numbers = (numbers / self.taps).next_multiple_of(DEPTH) * self.taps;
        }
        let panel = batch * self.size[0].div_ceil(SIDE) + line / SIDE;
        let (pair, half, line) = (k % PAIRS, k % DEPTH / PAIRS, line % SIDE);
        let at = if self.rows {
            line * DEPTH + k % DEPTH
        } else {
            (line / LINE * PAIRS + pair) * DEPTH + half * PAIRS + line % LINE
        };
        self.data.get((panel * numbers.div_ceil(DEPTH) + k / DEPTH) * STEP + at)
    }
}

impl<T: Source> Panels for Joined<T> {
    fn pack(&self, _: Isa, batch: usize, first: usize, count: usize, width: usize, out: &mut [f32]) {
        for (k, out) in out.chunks_exact_mut(width).take(self.size[1]).enumerate() {
            for (i, x) in out[..count].iter_mut().enumerate() {
                *x = self.get(batch, first + i, k);
            }
        }
    }
}

/// The largest magnitude among the elements; infinity if one is NaN.
pub fn largest_f32(isa: Isa, pool: &Pool, x: &[f32]) -> f32 {
    let bits = parallel(pool, x, |x| isa.run(Largest32(x)));
    f32::from_bits(bits.min(f32::INFINITY.to_bits()))
}

/// The largest magnitude among the elements; infinity if one is NaN.
pub fn largest_f16(isa: Isa, pool: &Pool, x: &[f16]) -> f32 {
    let bits = parallel(pool, x, |x| u32::from(isa.run(Largest16(x))));
    f16::from_bits(bits.min(f16::INFINITY.to_bits().into()) as u16).to_f32()
}

/// Combines the largest bits of parts.
fn parallel<T: Sync>(pool: &Pool, x: &[T], largest: impl Fn(&[T]) -> u32 + Send + Sync) -> u32 {
    const LEAST: usize = 1 << 16;
    let chunk = pool.chunk(x.len(), 64, LEAST);
    let all = AtomicU32::new(0);
    pool.parallel_for(x.len().div_ceil(chunk), |i| {
        let part = &x[i * chunk..x.len().min((i + 1) * chunk)];
        all.fetch_max(largest(part), Ordering::Relaxed);
    });
    all.into_inner()
}

struct Largest32<'a>(&'a [f32]);
struct Largest16<'a>(&'a [f16]);

impl Op for Largest32<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> u32 {
        self.0.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7fff_ffff))
    }
}

impl Op for Largest16<'_> {
    type Output = u16;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> u16 {
        self.0.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7fff))
    }
}
