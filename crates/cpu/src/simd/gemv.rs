//! Products of one or a few rows with a packed matrix, for which a tile of [`gemm`](super::gemm) is too small to pay:
//! the matrix is read once, in several streams, and nothing else is packed.

use half::f16;

use super::gemm::panel_columns;
use super::{Isa, Op, Simd};

/// How many steps ahead the matrix is asked for.
const AHEAD: usize = 16;

/// The type of the matrix's elements in memory.
pub trait Stored: Copy + Sync {
    /// Reads a vector of elements.
    ///
    /// # Safety
    /// `p` must be valid for reads of `LANES` elements.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F;
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> S::F {
        // SAFETY: as the caller vouches.
        unsafe { s.load(p) }
    }
}

impl Stored for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f16) -> S::F {
        // SAFETY: as the caller vouches.
        unsafe { s.load_f16(p) }
    }
}

/// Computes `out += x · B`, where B is k × n, packed in panels as [`gemm::pack`](super::gemm::pack) packs the columns of
/// an operand B. `x` has m rows of k elements and `out` m rows of n elements, their starts `strides` apart; n is a
/// multiple of [`panel_columns`].
///
/// Each element is one chain of multiply-adds that starts from its old value, in the order of k, as in a tile.
///
/// # Panics
/// A slice does not fit the sizes: a bug of the kernel.
pub fn add_product<T: Stored>(
    isa: Isa,
    [m, k, n]: [usize; 3],
    x: &[f32],
    strides: [usize; 2],
    b: &[T],
    out: &mut [f32],
) {
    assert!(n.is_multiple_of(panel_columns(isa)) && b.len() >= n * k);
    let end = |stride: usize, len: usize| m.saturating_sub(1) * stride + len;
    assert!(m == 0 || (x.len() >= end(strides[0], k) && out.len() >= end(strides[1], n)));
    if m * n > 0 {
        isa.run(AddProduct { size: [m, k, n], x, strides, b, out });
    }
}

/// Private, because [`add_product`] has to check the lengths.
struct AddProduct<'a, T> {
    size: [usize; 3],
    x: &'a [f32],
    strides: [usize; 2],
    b: &'a [T],
    out: &'a mut [f32],
}

impl<T: Stored> Op for AddProduct<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let AddProduct { size: [m, k, n], x, strides, b, out } = self;
        let width = 2 * S::LANES;
        let panels = n / width;
        // Rows in groups whose accumulators fit in the registers and hide the latency of a multiply-add.
        let mut row = 0;
        while row < m {
            // SAFETY: `add_product` checked that `x` has `m` rows, that `out` has `m` rows of `n` elements, and that
            // `b` has a panel of `k` steps for each `width` of the `n` columns; the loops stay below `m` and `panels`.
            unsafe {
                let (x, out) = (x.as_ptr().add(row * strides[0]), out.as_mut_ptr().add(row * strides[1]));
                let mut panel = 0;
                let at = |panel: usize| (b.as_ptr().add(panel * width * k), out.add(panel * width));
                if m - row >= 4 {
                    while panel < panels {
                        columns::<S, T, 4, 1>(s, k, x, strides, at(panel));
                        panel += 1;
                    }
                    row += 4;
                } else if m - row >= 2 {
                    while panel + 2 <= panels {
                        columns::<S, T, 2, 2>(s, k, x, strides, at(panel));
                        panel += 2;
                    }
                    while panel < panels {
                        columns::<S, T, 2, 1>(s, k, x, strides, at(panel));
                        panel += 1;
                    }
                    row += 2;
                } else {
                    while panel + 4 <= panels {
                        columns::<S, T, 1, 4>(s, k, x, strides, at(panel));
                        panel += 4;
                    }
                    while panel < panels {
                        columns::<S, T, 1, 1>(s, k, x, strides, at(panel));
                        panel += 1;
                    }
                    row += 1;
                }
            }
        }
    }
}

/// Adds to `ROWS` rows of `PANELS` panels.
///
/// # Safety
/// `x` must have `ROWS` rows of `k` elements, `b` `PANELS` panels of `k` steps, and `out` `ROWS` rows of the panels'
/// columns.
#[inline(always)]
unsafe fn columns<S: Simd, T: Stored, const ROWS: usize, const PANELS: usize>(
    s: S,
    k: usize,
    x: *const f32,
    [x_stride, out_stride]: [usize; 2],
    (b, out): (*const T, *mut f32),
) {
    let width = 2 * S::LANES;
    let mut sums = [[[s.splat(0.0); 2]; PANELS]; ROWS];
    // SAFETY: as the caller vouches.
    unsafe {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (p, sums) in sums.iter_mut().enumerate() {
                let from = out.add(r * out_stride + p * width);
                *sums = [s.load(from), s.load(from.add(S::LANES))];
            }
        }
        for i in 0..k {
            let mut weights = [[s.splat(0.0); 2]; PANELS];
            for (p, weights) in weights.iter_mut().enumerate() {
                let from = b.add(p * width * k + i * width);
                let ahead = from.wrapping_add(AHEAD * width);
                s.prefetch(ahead);
                if size_of::<T>() * width > 64 {
                    s.prefetch(ahead.wrapping_add(S::LANES));
                }
                *weights = [T::load(s, from), T::load(s, from.add(S::LANES))];
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = s.splat(*x.add(r * x_stride + i));
                for (sums, weights) in sums.iter_mut().zip(&weights) {
                    sums[0] = s.fma(x, weights[0], sums[0]);
                    sums[1] = s.fma(x, weights[1], sums[1]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (p, sums) in sums.iter().enumerate() {
                let to = out.add(r * out_stride + p * width);
                s.store(to, sums[0]);
                s.store(to.add(S::LANES), sums[1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::gemm::{F32, Matrix, pack};

    /// Against f64, within the bound of one chain of k multiply-adds; exact for small dyadic numbers, whose sums are
    /// exact in any order.
    #[test]
    fn adds_products() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        for isa in Isa::available() {
            let unit = panel_columns(isa);
            for (m, k, n) in
                [(1, 1, 1), (1, 37, 5), (2, 8, 3), (3, 100, 2), (4, 33, 1), (7, 20, 5), (1, 0, 2)]
            {
                let (n, stride) = (n * unit, k + 3);
                for exact in [true, false] {
                    let mut number = || if exact { (random() * 16.0).round() / 8.0 } else { random() };
                    let x: Vec<f32> = (0..m * stride).map(|_| number()).collect();
                    let b: Vec<f32> = (0..k * n).map(|_| number()).collect();
                    let old: Vec<f32> = (0..m * n).map(|_| number()).collect();
                    let packed =
                        pack(isa, &Matrix::new(F32(&b), k, n, [n, 1], &[]).columns(), [1, n, k], unit);
                    // Halves of the same numbers give the same result, if they are exact.
                    if exact {
                        let halves: Vec<f16> = packed.iter().map(|&x| f16::from_f32(x)).collect();
                        let (mut a, mut b) = (old.clone(), old.clone());
                        add_product(isa, [m, k, n], &x, [stride, n], &packed, &mut a);
                        add_product(isa, [m, k, n], &x, [stride, n], &halves, &mut b);
                        assert_eq!(a, b);
                    }
                    let mut out = old.clone();
                    add_product(isa, [m, k, n], &x, [stride, n], &packed, &mut out);
                    for (i, &got) in out.iter().enumerate() {
                        let (row, column) = (i / n, i % n);
                        let terms =
                            || (0..k).map(|t| f64::from(x[row * stride + t]) * f64::from(b[t * n + column]));
                        let want = f64::from(old[i]) + terms().sum::<f64>();
                        let size = f64::from(old[i]).abs() + terms().map(f64::abs).sum::<f64>();
                        let bound = if exact { 0.0 } else { (k + 4) as f64 * 2f64.powi(-24) * size };
                        assert!((f64::from(got) - want).abs() <= bound, "{isa:?} {m} {k} {n}: {got} {want}");
                    }
                }
            }
        }
    }
}
