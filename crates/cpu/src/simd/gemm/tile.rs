//! The micro-kernel: multiplies a few rows by two vectors of columns, in registers.

use crate::simd::{Isa, MAX_LANES, Op, Simd};

/// The most rows of a tile on any machine.
pub const MAX_ROWS: usize = 14;

/// The most rows of a tile in this instruction set: [`Simd::TILE_ROWS`].
pub fn max_rows(isa: Isa) -> usize {
    isa.run(MaxRows)
}

struct MaxRows;

impl Op for MaxRows {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        const { assert!(S::TILE_ROWS <= MAX_ROWS && S::LANES <= MAX_LANES) };
        S::TILE_ROWS
    }
}

/// How many steps ahead B is asked for.
const AHEAD: usize = 16;

/// One tile of C.
pub struct Tile {
    pub k: usize,
    /// Panel of A: for each of the k steps, one element per row of the panel.
    pub a: *const f32,
    /// Panel of B: for each of the k steps, two vectors.
    pub b: *const f32,
    /// Elements of B from one of the k steps to the next.
    pub b_stride: usize,
    /// The start value of each row's sums, or null for zeros.
    pub row_bias: *const f32,
    /// The start value of each column's sums, or null for zeros.
    pub column_bias: *const f32,
    pub c: *mut f32,
    pub c_stride: usize,
    /// The number of rows to store; the panel of A may have more.
    pub rows: usize,
}

/// Computes a tile. The panel of A has `panel` rows.
///
/// # Safety
/// All pointers must be valid for what their fields say: `panel` rows and two vectors of columns for reads, and
/// `rows` rows of two vectors of columns for writes.
pub unsafe fn run_tile(isa: Isa, panel: usize, tile: &Tile) {
    macro_rules! dispatch {
        ($($rows:literal)*) => {
            match panel {
                // SAFETY: as the caller vouches.
                $($rows => isa.run(unsafe { TileOp::<$rows>::new(tile) }),)*
                _ => unreachable!("a panel of {panel} rows"),
            }
        };
    }
    dispatch!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

struct TileOp<'a, const ROWS: usize>(&'a Tile);

impl<'a, const ROWS: usize> TileOp<'a, ROWS> {
    /// # Safety
    /// As [`run_tile`], for a panel of `ROWS` rows.
    unsafe fn new(tile: &'a Tile) -> Self {
        TileOp(tile)
    }
}

impl<const ROWS: usize> Op for TileOp<'_, ROWS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let t = self.0;
        let mut acc = [[s.splat(0.0); 2]; ROWS];
        if !t.row_bias.is_null() {
            for (i, acc) in acc.iter_mut().enumerate() {
                // SAFETY: the caller of `new` vouched for `ROWS` elements.
                *acc = [s.splat(unsafe { *t.row_bias.add(i) }); 2];
            }
        } else if !t.column_bias.is_null() {
            // SAFETY: the caller of `new` vouched for two vectors.
            acc = [unsafe { [s.load(t.column_bias), s.load(t.column_bias.add(S::LANES))] }; ROWS];
        }
        let (mut a, mut b) = (t.a, t.b);
        for _ in 0..t.k {
            // SAFETY: the caller of `new` vouched for two vectors of B at each step.
            let (b0, b1) = unsafe { (s.load(b), s.load(b.add(S::LANES))) };
            // B comes from far away, and in large steps if it is read in place; A follows in the nearest caches.
            let ahead = b.wrapping_add(AHEAD * t.b_stride);
            s.prefetch(ahead);
            s.prefetch(ahead.wrapping_add(S::LANES));
            for (i, acc) in acc.iter_mut().enumerate() {
                // SAFETY: the caller of `new` vouched for `ROWS` elements of A at each step.
                let x = s.splat(unsafe { *a.add(i) });
                acc[0] = s.fma(x, b0, acc[0]);
                acc[1] = s.fma(x, b1, acc[1]);
            }
            // After the last step the pointer is past the end; `wrapping_add` allows that, and nothing reads it.
            a = a.wrapping_add(ROWS);
            b = b.wrapping_add(t.b_stride);
        }
        for (i, acc) in acc.iter().enumerate() {
            if i < t.rows {
                // SAFETY: the caller of `new` vouched for `rows` rows of two vectors.
                unsafe {
                    let c = t.c.add(i * t.c_stride);
                    s.store(c, acc[0]);
                    s.store(c.add(S::LANES), acc[1]);
                }
            }
        }
    }
}
