//! Matrix products of f32 slices, on the kernels of the `gemm` crate.

use gemm::{Parallelism, gemm};

/// A matrix in a slice: element (r, c) is at `r * rows + c * columns`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one column to the next.
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A dense row-major matrix.
    pub fn rows(data: &'a [f32], columns: usize) -> Matrix<'a> {
        Matrix { data, row_stride: columns, column_stride: 1 }
    }

    /// The transpose of a dense row-major matrix that has `columns` columns.
    pub fn transposed(data: &'a [f32], columns: usize) -> Matrix<'a> {
        Matrix { data, row_stride: 1, column_stride: columns }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        let last = rows.saturating_sub(1) * self.row_stride + columns.saturating_sub(1) * self.column_stride;
        rows * columns == 0 || last < self.data.len()
    }
}

/// Computes `out = a · b`, or `out += a · b` with `accumulate`, on the calling thread: `a` is m × k, `b` is k × n, and
/// `out` is m × n with `out_stride` elements from one row to the next.
///
/// # Panics
/// A matrix does not fit its slice: a bug of the kernel.
pub fn product(
    [m, k, n]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    out: &mut [f32],
    out_stride: usize,
    accumulate: bool,
) {
    let last = m.saturating_sub(1) * out_stride + n;
    assert!(a.holds(m, k) && b.holds(k, n) && (m * n == 0 || (n <= out_stride && last <= out.len())));
    // SAFETY: the assertion shows that every element that the strides reach, for all rows and columns, lies in its
    // slice; `out` is borrowed exclusively, so it overlaps neither input. All strides fit `isize`, as slices do.
    unsafe {
        gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_and_accumulation() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        let mut out = [0.0; 4];
        product([2, 3, 2], Matrix::rows(&a, 3), Matrix::rows(&b, 2), &mut out, 2, false);
        assert_eq!(out, [4.0, 5.0, 10.0, 11.0]);
        product([2, 3, 2], Matrix::transposed(&a, 2), Matrix::rows(&b, 2), &mut out, 2, true);
        assert_eq!(out, [4.0 + 6.0, 5.0 + 8.0, 10.0 + 8.0, 11.0 + 10.0]);
        product([2, 0, 2], Matrix::rows(&[], 0), Matrix::rows(&[], 2), &mut out, 2, false);
        assert_eq!(out, [0.0; 4]);
    }
}
