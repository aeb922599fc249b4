//! Products of a few rows with a compressed matrix, whose elements are expanded in registers, on their way into the sum.
//!
//! The result is, bit for bit, that of the expanded matrix: each element is expanded as the program declares.

use super::gemm::panel_columns;
use super::{Isa, Op, Simd};

/// How codes stand for numbers.
#[derive(Clone, Copy, Debug)]
pub enum Meaning<'a> {
    /// `scale · (code - offset)`. There is a scale for each column of each block of steps, panel by panel.
    Scaled {
        /// The scales.
        scales: &'a [f32],
        /// The offsets: as many as scales, or one.
        offsets: &'a [f32],
        /// The steps of a block.
        block: usize,
    },
    /// The entry with the number `code`.
    Table(&'a [f32; 16]),
}

/// A compressed matrix of k steps, in panels like those of an operand B.
#[derive(Clone, Copy, Debug)]
pub struct Coded<'a> {
    /// For each panel: for each step (or pair of steps, of which the first has the low half of each byte) a byte for
    /// each column.
    pub codes: &'a [u8],
    /// Whether a code has four bits.
    pub nibbles: bool,
    /// What a code stands for.
    pub meaning: Meaning<'a>,
    /// Whether elements are rounded to half precision.
    pub half: bool,
}

impl Coded<'_> {
    /// The bytes of codes of one column.
    pub fn column(k: usize, nibbles: bool) -> usize {
        if nibbles { k.div_ceil(2) } else { k }
    }
}

/// Computes `out += x · B`, as [`gemv::add_product`](super::gemv::add_product) does, for the panels of B from number
/// `first` on.
///
/// # Panics
/// A slice does not fit the sizes: a bug of the kernel.
pub fn add_product(
    isa: Isa,
    [m, k, n]: [usize; 3],
    x: &[f32],
    strides: [usize; 2],
    (b, first): (Coded<'_>, usize),
    out: &mut [f32],
) {
    let width = panel_columns(isa);
    assert!(n.is_multiple_of(width) && b.codes.len() >= (first * width + n) * Coded::column(k, b.nibbles));
    let end = |stride: usize, len: usize| m.saturating_sub(1) * stride + len;
    assert!(m == 0 || (x.len() >= end(strides[0], k) && out.len() >= end(strides[1], n)));
    if let Meaning::Scaled { scales, offsets, block } = b.meaning {
        assert!(block > 0 && (!b.nibbles || block.is_multiple_of(2) || block >= k));
        let all = (first * width + n) * k.div_ceil(block);
        assert!(scales.len() >= all && (offsets.len() == 1 || offsets.len() >= all));
    }
    if m * n > 0 {
        isa.run(AddProduct { size: [m, k, n], x, strides, b, first, out });
    }
}

/// Private, because [`add_product`] has to check the lengths.
struct AddProduct<'a> {
    size: [usize; 3],
    x: &'a [f32],
    strides: [usize; 2],
    b: Coded<'a>,
    first: usize,
    out: &'a mut [f32],
}

impl Op for AddProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let AddProduct { size: [m, k, n], x, strides, b, first, out } = self;
        let panels = n / (2 * S::LANES);
        let mut panel = 0;
        while panel < panels {
            let pair = panel + 2 <= panels;
            let mut row = 0;
            while row < m {
                // SAFETY: `add_product` checked the lengths for `m` rows and `panels` panels; the loops stay below.
                unsafe {
                    let x = x.as_ptr().add(row * strides[0]);
                    let out = out.as_mut_ptr().add(row * strides[1] + panel * 2 * S::LANES);
                    let at = Place { k, panel: first + panel, x, out, strides };
                    match (m - row >= 2, pair) {
                        (false, false) => kinds::<S, 1, 1>(s, b, at),
                        (false, true) => kinds::<S, 1, 2>(s, b, at),
                        (true, false) => kinds::<S, 2, 1>(s, b, at),
                        (true, true) => kinds::<S, 2, 2>(s, b, at),
                    }
                }
                row += if m - row >= 2 { 2 } else { 1 };
            }
            panel += if pair { 2 } else { 1 };
        }
    }
}

/// Where to compute.
#[derive(Clone, Copy)]
struct Place {
    k: usize,
    panel: usize,
    x: *const f32,
    out: *mut f32,
    strides: [usize; 2],
}

/// Calls the code for the kind of matrix.
///
/// # Safety
/// As [`columns`].
#[inline(always)]
unsafe fn kinds<S: Simd, const ROWS: usize, const PANELS: usize>(s: S, b: Coded<'_>, at: Place) {
    // SAFETY: as the caller vouches.
    unsafe {
        match (b.meaning, b.nibbles, b.half) {
            (Meaning::Table(_), true, _) => columns::<S, ROWS, PANELS, true, true, false>(s, b, at),
            (Meaning::Table(_), false, _) => columns::<S, ROWS, PANELS, false, true, false>(s, b, at),
            (Meaning::Scaled { .. }, true, true) => columns::<S, ROWS, PANELS, true, false, true>(s, b, at),
            (Meaning::Scaled { .. }, true, false) => columns::<S, ROWS, PANELS, true, false, false>(s, b, at),
            (Meaning::Scaled { .. }, false, true) => columns::<S, ROWS, PANELS, false, false, true>(s, b, at),
            (Meaning::Scaled { .. }, false, false) => {
                columns::<S, ROWS, PANELS, false, false, false>(s, b, at)
            }
        }
    }
}

/// How many steps ahead codes are asked for.
const AHEAD: usize = 32;

/// Adds to `ROWS` rows of `PANELS` panels.
///
/// # Safety
/// `x` must have `ROWS` rows of `k` elements, `out` as many of the panels' columns, and the matrix the panels.
#[inline(always)]
unsafe fn columns<
    S: Simd,
    const ROWS: usize,
    const PANELS: usize,
    const NIBBLES: bool,
    const TABLE: bool,
    const HALF: bool,
>(
    s: S,
    b: Coded<'_>,
    at: Place,
) {
    let width = 2 * S::LANES;
    let Place { k, panel, x, out, strides } = at;
    let steps = Coded::column(k, NIBBLES);
    let (scales, offsets, block, table): (&[f32], &[f32], usize, &[f32; 16]) = match b.meaning {
        Meaning::Scaled { scales, offsets, block } => (scales, offsets, block, &[0.0; 16]),
        Meaning::Table(table) => (&[], &[0.0], k.max(1), table),
    };
    let blocks = k.div_ceil(block);
    let mut sums = [[[s.splat(0.0); 2]; PANELS]; ROWS];
    // SAFETY: as the caller vouches; blocks and steps stay below their numbers.
    unsafe {
        let codes = b.codes.as_ptr().add(panel * width * steps);
        for (r, sums) in sums.iter_mut().enumerate() {
            for (p, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = s.load(out.add(r * strides[1] + p * width + v * S::LANES));
                }
            }
        }
        for number in 0..blocks {
            let mut scale = [[s.splat(0.0); 2]; PANELS];
            let mut offset = [[s.splat(offsets[0]); 2]; PANELS];
            if !TABLE {
                for p in 0..PANELS {
                    for v in 0..2 {
                        let i = ((panel + p) * blocks + number) * width + v * S::LANES;
                        scale[p][v] = s.load(scales.as_ptr().add(i));
                        if offsets.len() > 1 {
                            offset[p][v] = s.load(offsets.as_ptr().add(i));
                        }
                    }
                }
            }
            let (mut i, end) = (number * block, k.min((number + 1) * block));
            while i < end {
                let two = NIBBLES && i + 1 < end;
                for p in 0..PANELS {
                    let from = codes.add(p * width * steps + if NIBBLES { i / 2 } else { i } * width);
                    s.prefetch(from.wrapping_add(AHEAD * width));
                    for v in 0..2 {
                        let code = s.load_bytes(from.add(v * S::LANES));
                        let low = if NIBBLES { s.and_int(code, s.splat_int(15)) } else { code };
                        let weight = expand::<S, TABLE, HALF>(s, low, table, scale[p][v], offset[p][v]);
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let x = s.splat(*x.add(r * strides[0] + i));
                            sums[p][v] = s.fma(x, weight, sums[p][v]);
                        }
                        if two {
                            let weight = expand::<S, TABLE, HALF>(
                                s,
                                s.shr::<4>(code),
                                table,
                                scale[p][v],
                                offset[p][v],
                            );
                            for (r, sums) in sums.iter_mut().enumerate() {
                                let x = s.splat(*x.add(r * strides[0] + i + 1));
                                sums[p][v] = s.fma(x, weight, sums[p][v]);
                            }
                        }
                    }
                }
                i += if NIBBLES { 2 } else { 1 };
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (p, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    s.store(out.add(r * strides[1] + p * width + v * S::LANES), sum);
                }
            }
        }
    }
}

/// What a code stands for.
#[inline(always)]
fn expand<S: Simd, const TABLE: bool, const HALF: bool>(
    s: S,
    code: S::I,
    table: &[f32; 16],
    scale: S::F,
    offset: S::F,
) -> S::F {
    if TABLE {
        return s.lookup(table, code);
    }
    let number = s.mul(scale, s.sub(s.int_to_float(code), offset));
    if HALF { s.round_f16(number) } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::gemm::{F32, Matrix, pack};
    use crate::simd::gemv;

    /// The same bits as the product with the expanded matrix, which is tested against f64.
    #[test]
    fn as_if_expanded() {
        let mut state = 3u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        for isa in Isa::available() {
            let unit = panel_columns(isa);
            for (m, k, panels, block) in
                [(1, 1, 1, 1), (1, 12, 2, 4), (2, 7, 3, 7), (3, 64, 1, 32), (4, 33, 4, 33), (1, 40, 5, 8)]
            {
                let n = panels * unit;
                for kind in 0..8 {
                    let (nibbles, table, half, many) =
                        (kind & 1 == 1, kind & 2 == 2, kind & 4 == 4, kind > 4);
                    let entries: [f32; 16] = std::array::from_fn(|_| random() - 0.5);
                    let top = if nibbles || table { 16.0 } else { 256.0 };
                    let code: Vec<u8> = (0..k * n).map(|_| (random() * top) as u8).collect();
                    let blocks = k.div_ceil(block);
                    let scales: Vec<f32> = (0..n * blocks).map(|_| random() + 0.1).collect();
                    let count = if many { n * blocks } else { 1 };
                    let offsets: Vec<f32> = (0..count).map(|_| (random() * top).floor()).collect();
                    // Where the scale of a column and a step is.
                    let of = |c: usize, i: usize| (c / unit * blocks + i / block) * unit + c % unit;
                    let dense: Vec<f32> = (0..k * n)
                        .map(|at| {
                            let (i, c) = (at / n, at % n);
                            if table {
                                return entries[usize::from(code[at])];
                            }
                            let offset = offsets[if many { of(c, i) } else { 0 }];
                            let w = scales[of(c, i)] * (f32::from(code[at]) - offset);
                            if half { half::f16::from_f32(w).to_f32() } else { w }
                        })
                        .collect();
                    let column = Coded::column(k, nibbles);
                    let mut codes = vec![0u8; n * column];
                    for (at, &code) in code.iter().enumerate() {
                        let (i, c) = (at / n, at % n);
                        let (step, shift) = if nibbles { (i / 2, i % 2 * 4) } else { (i, 0) };
                        codes[c / unit * unit * column + step * unit + c % unit] |= code << shift;
                    }
                    let meaning = if table {
                        Meaning::Table(&entries)
                    } else {
                        Meaning::Scaled { scales: &scales, offsets: &offsets, block }
                    };
                    let coded = Coded { codes: &codes, nibbles, meaning, half };
                    let x: Vec<f32> = (0..m * k).map(|_| random() - 0.5).collect();
                    let (mut a, mut b) = (vec![0.25; m * n], vec![0.25; m * n]);
                    let packed =
                        pack(isa, &Matrix::new(F32(&dense), k, n, [n, 1], &[]).columns(), [1, n, k], unit);
                    gemv::add_product(isa, [m, k, n], &x, [k, n], &packed, &mut a);
                    add_product(isa, [m, k, n], &x, [k, n], (coded, 0), &mut b);
                    assert_eq!(a, b, "{isa:?} {m} {k} {n} {block} {kind}");
                }
            }
        }
    }
}
