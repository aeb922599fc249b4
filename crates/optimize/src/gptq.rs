//! Chooses codes by what they do to outputs, and not to weights (GPTQ: Frantar et al., 2023).
//!
//! The columns of a weight are rounded one after the other, those of large inputs first. What a column loses is made up
//! for by the columns that are not rounded yet, as far as their inputs go together. Scales and tables stay as they are.
//!
//! With `H` the mean products of inputs, the error of outputs of a row is `e H e`, `e` being what the row lost. Let `U`
//! be the upper triangular matrix with `UᵀU = H⁻¹`. If column `j` loses `e`, then the best change of every later column
//! `k` is `-e U[j][k] / U[j][j]`.

use crate::blocks::for_each_run;
use crate::code::{Coded, Data, FloatWeight};
use crate::moments::Moments;

/// A part of the mean of `H`'s diagonal is added to it, so that it can be inverted.
const DAMPING: f64 = 0.01;

/// Rows that are rounded at a time, so that `U` is read once for all of them.
const ROWS: usize = 8;

/// How the elements of a weight form rows, one for each output, of one element for each input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub rows: usize,
    pub columns: usize,
    /// Whether columns lie one after the other in memory, as in the second factor of a `matmul`.
    pub transposed: bool,
}

impl Rows {
    fn at(self, row: usize, column: usize) -> usize {
        if self.transposed { column * self.rows + row } else { row * self.columns + column }
    }
}

/// The order in which columns are rounded, and `U` for it. It depends on the inputs alone.
#[derive(Debug)]
pub(crate) struct Inverse {
    order: Vec<usize>,
    u: Vec<f32>,
}

impl Inverse {
    /// `None` if it cannot be computed.
    pub fn new(moments: &Moments) -> Option<Inverse> {
        let mut order: Vec<usize> = (0..moments.size()).collect();
        order.sort_by(|&a, &b| moments.product(b, b).total_cmp(&moments.product(a, a)));
        let u = triangle(moments, &order)?;
        Some(Inverse { order, u })
    }
}

/// Chooses the codes of a compressed weight again. Returns `false` if there is nothing to choose: for pruned weights
/// that are not compressed otherwise, and for vectors.
pub(crate) fn round(coded: &mut Coded, weight: &FloatWeight<'_>, rows: Rows, inverse: &Inverse) -> bool {
    let Some(grid) = Grid::new(coded) else { return false };
    let n = rows.columns;
    let Inverse { order, u } = inverse;
    let mask = coded.mask.clone();
    let mut codes = vec![0u8; weight.values.len()];
    let mut batch = vec![0f32; ROWS * n];
    let mut errors = [0f32; ROWS];
    for first in (0..rows.rows).step_by(ROWS) {
        let count = ROWS.min(rows.rows - first);
        for (r, row) in batch.chunks_exact_mut(n).take(count).enumerate() {
            row.iter_mut().zip(order).for_each(|(w, &column)| *w = weight.values[rows.at(first + r, column)]);
        }
        for (j, &column) in order.iter().enumerate() {
            let u = &u[j * n..(j + 1) * n];
            for r in 0..count {
                let at = rows.at(first + r, column);
                let w = batch[r * n + j];
                let value = if mask.as_ref().is_some_and(|m| !m[at]) {
                    0.0
                } else {
                    let (code, value) = grid.nearest(at, w);
                    codes[at] = code;
                    value
                };
                errors[r] = (w - value) / u[j];
            }
            for (r, row) in batch.chunks_exact_mut(n).take(count).enumerate() {
                let e = errors[r];
                row[j + 1..].iter_mut().zip(&u[j + 1..]).for_each(|(w, u)| *w -= e * u);
            }
        }
    }
    match &mut coded.data {
        Data::Linear(scaled) => scaled.data = codes,
        Data::Palette(tables) => tables.indices = codes,
        Data::Dense(_) => {}
    }
    true
}

/// The signal-to-noise ratio of the outputs that a weight makes, in dB: what the rows `values` give against `decoded`.
pub(crate) fn output_snr_db(values: &[f32], decoded: &[f32], rows: Rows, moments: &Moments) -> f64 {
    let n = rows.columns;
    // A share of the rows is enough to know.
    let step = (rows.rows / 64).max(1);
    let (mut signal, mut noise) = (0.0, 0.0);
    for row in (0..rows.rows).step_by(step) {
        let w: Vec<f64> = (0..n).map(|c| f64::from(values[rows.at(row, c)])).collect();
        let e: Vec<f64> = (0..n).map(|c| w[c] - f64::from(decoded[rows.at(row, c)])).collect();
        for a in 0..n {
            let (mut of_w, mut of_e) =
                (0.5 * moments.product(a, a) * w[a], 0.5 * moments.product(a, a) * e[a]);
            for b in a + 1..n {
                let h = moments.product(a, b);
                of_w += h * w[b];
                of_e += h * e[b];
            }
            signal += 2.0 * w[a] * of_w;
            noise += 2.0 * e[a] * of_e;
        }
    }
    if noise <= 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() }
}

/// What the mean of outputs loses, for each row.
pub(crate) fn bias(values: &[f32], decoded: &[f32], rows: Rows, moments: &Moments) -> Vec<f64> {
    let means = moments.means();
    let of_row = |row: usize| {
        let lost = |(c, mean): (usize, &f64)| {
            let at = rows.at(row, c);
            (f64::from(values[at]) - f64::from(decoded[at])) * mean
        };
        means.iter().enumerate().map(lost).sum()
    };
    (0..rows.rows).map(of_row).collect()
}

/// Returns `U` for the columns in this order. `None` if it cannot be computed.
fn triangle(moments: &Moments, order: &[usize]) -> Option<Vec<f32>> {
    let n = order.len();
    let mean = order.iter().map(|&i| moments.product(i, i)).sum::<f64>() / n as f64;
    if !mean.is_finite() || mean <= 0.0 {
        return None;
    }
    // H = R Rᵀ with R upper triangular; U is the inverse of R. Reversing rows and columns makes R the usual lower one.
    let mut l = vec![0f64; n * n];
    for i in 0..n {
        for j in 0..=i {
            let (a, b) = (order[n - 1 - i], order[n - 1 - j]);
            l[i * n + j] = moments.product(a, b);
        }
        // An input that is always zero costs nothing, whatever its column is.
        l[i * n + i] += DAMPING * mean;
    }
    for i in 0..n {
        let (above, row) = l.split_at_mut(i * n);
        let row = &mut row[..n];
        for j in 0..i {
            let other = &above[j * n..j * n + n];
            let sum = dot(&row[..j], &other[..j]);
            row[j] = (row[j] - sum) / other[j];
        }
        let sum = dot(&row[..i], &row[..i]);
        let left = row[i] - sum;
        if !left.is_finite() || left <= 0.0 {
            return None;
        }
        row[i] = left.sqrt();
    }
    // The inverse of a lower triangular matrix, row by row: M[i] = (unit - Σ L[i][j] M[j]) / L[i][i].
    let mut inverse = vec![0f64; n * n];
    let mut row = vec![0f64; n];
    for i in 0..n {
        row[..=i].fill(0.0);
        for j in 0..i {
            let factor = l[i * n + j];
            if factor != 0.0 {
                let m = &inverse[j * n..=j * n + j];
                row.iter_mut().zip(m).for_each(|(r, m)| *r -= factor * m);
            }
        }
        row[i] = 1.0;
        let scale = 1.0 / l[i * n + i];
        inverse[i * n..=i * n + i].iter_mut().zip(&row).for_each(|(m, r)| *m = r * scale);
    }
    // Reversed again: upper triangular.
    let mut u = vec![0f32; n * n];
    for i in 0..n {
        for j in 0..=i {
            u[(n - 1 - i) * n + (n - 1 - j)] = inverse[i * n + j] as f32;
        }
    }
    Some(u)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0f64; 4];
    let (a, b) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a.zip(b) {
        for i in 0..4 {
            lanes[i] += x[i] * y[i];
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// The values that each element can have.
enum Grid {
    Linear {
        block: Vec<u32>,
        scales: Vec<f32>,
        zeros: Vec<i32>,
        least: i32,
        most: i32,
    },
    /// The sorted values of each table, their indices, and how elements choose a table.
    Palette {
        tables: Vec<(Vec<f32>, Vec<u8>)>,
        inner: usize,
        places: usize,
        per_group: usize,
    },
}

impl Grid {
    fn new(coded: &Coded) -> Option<Grid> {
        match &coded.data {
            Data::Dense(_) => None,
            Data::Linear(scaled) => {
                let mut block = vec![0u32; scaled.data.len()];
                for_each_run(&coded.shape, &scaled.counts, |range, first, step| {
                    block[range].iter_mut().enumerate().for_each(|(i, b)| *b = (first + i * step) as u32);
                });
                let signed = scaled.is_signed();
                let number = |&q: &u8| if signed { i32::from(q as i8) } else { i32::from(q) };
                let numbers = || scaled.data.iter().map(number);
                let levels = 1 << scaled.dtype.bits();
                let symmetric = scaled.zeros.is_none() || numbers().max() < Some(levels - 1) && !signed;
                let zeros = match &scaled.zeros {
                    Some(zeros) => zeros.iter().map(number).collect(),
                    None => vec![0; scaled.scales.len()],
                };
                let (least, most) = match (signed, symmetric) {
                    (true, true) => (1 - levels / 2, levels / 2 - 1),
                    (true, false) => (-levels / 2, levels / 2 - 1),
                    (false, true) => (0, levels - 2),
                    (false, false) => (0, levels - 1),
                };
                Some(Grid::Linear { block, scales: scaled.scales.clone(), zeros, least, most })
            }
            Data::Palette(tables) if tables.vector > 1 => None,
            Data::Palette(tables) => {
                let sorted = |table: &[f32]| {
                    let mut order: Vec<u8> = (0..=255u8).take(table.len()).collect();
                    order.sort_by(|&a, &b| table[usize::from(a)].total_cmp(&table[usize::from(b)]));
                    (order.iter().map(|&i| table[usize::from(i)]).collect(), order)
                };
                let tables_of = tables.values.chunks_exact(1 << tables.bits).map(sorted).collect();
                let places = coded.shape[tables.axis];
                Some(Grid::Palette {
                    tables: tables_of,
                    inner: coded.shape[tables.axis + 1..].iter().product(),
                    places,
                    per_group: places / tables.groups,
                })
            }
        }
    }

    /// The code of the nearest value, and that value.
    fn nearest(&self, at: usize, x: f32) -> (u8, f32) {
        match self {
            Grid::Linear { block, scales, zeros, least, most } => {
                let block = block[at] as usize;
                let (scale, zero) = (scales[block], zeros[block]);
                let q = (x / scale).round_ties_even().clamp((least - zero) as f32, (most - zero) as f32);
                ((q as i32 + zero) as u8, q * scale)
            }
            Grid::Palette { tables, inner, places, per_group } => {
                let (values, codes) = &tables[at / inner % places / per_group];
                let above = values.partition_point(|v| *v < x);
                let i = match above {
                    0 => 0,
                    n if n == values.len() => n - 1,
                    n if x - values[n - 1] <= values[n] - x => n - 1,
                    n => n,
                };
                (codes[i], values[i])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{DType, Opset};

    use super::*;
    use crate::Compression;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..n).map(|_| (0..4).map(|_| next()).sum()).collect()
    }

    /// Vectors whose elements go together, the first ones larger.
    fn inputs(count: usize, size: usize) -> Vec<f32> {
        let noise = numbers(count * size, 3);
        let mut all = Vec::new();
        for vector in noise.chunks_exact(size) {
            let shared = vector[0];
            all.extend(
                vector.iter().enumerate().map(|(i, x)| (x + 2.0 * shared + 0.3) / (1.0 + i as f32 * 0.2)),
            );
        }
        all
    }

    fn moments(vectors: &[f32], size: usize) -> Moments {
        let mut moments = Moments::new(size);
        moments.add(vectors);
        moments
    }

    #[test]
    fn moments_are_means() {
        let (size, count) = (7, 100);
        let mut vectors = inputs(count, size);
        let of = moments(&vectors, size);
        for a in 0..size {
            let mean: f64 = (0..count).map(|v| f64::from(vectors[v * size + a])).sum::<f64>() / count as f64;
            assert!((of.means()[a] - mean).abs() < 1e-6);
            for b in 0..size {
                let product = |v: usize| f64::from(vectors[v * size + a]) * f64::from(vectors[v * size + b]);
                let mean = (0..count).map(product).sum::<f64>() / count as f64;
                assert!((of.product(a, b) - mean).abs() < 1e-5, "{a} {b}");
            }
        }
        vectors[size] = f32::NAN;
        assert_eq!(moments(&vectors, size).count(), count as f64 - 1.0);
    }

    /// The inverse of a symmetric positive matrix, by elimination.
    fn inverse(mut h: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        let n = h.len();
        let mut out: Vec<Vec<f64>> =
            (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
        for i in 0..n {
            let pivot = h[i][i];
            for j in 0..n {
                h[i][j] /= pivot;
                out[i][j] /= pivot;
            }
            for r in (0..n).filter(|&r| r != i) {
                let factor = h[r][i];
                for j in 0..n {
                    h[r][j] -= factor * h[i][j];
                    out[r][j] -= factor * out[i][j];
                }
            }
        }
        out
    }

    /// The definition, one column at a time, each with the inverse of what is left (Frantar and Alistarh, 2022).
    fn by_definition(row: &[f32], moments: &Moments, nearest: &dyn Fn(usize, f64) -> f64) -> Vec<f64> {
        let n = row.len();
        let mean = (0..n).map(|i| moments.product(i, i)).sum::<f64>() / n as f64;
        let mut left: Vec<usize> = (0..n).collect();
        left.sort_by(|&a, &b| moments.product(b, b).total_cmp(&moments.product(a, a)));
        let mut w: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        let mut out = vec![0.0; n];
        while let Some(&column) = left.first() {
            let h = left.iter().map(|&a| {
                let element = |&b: &usize| moments.product(a, b) + if a == b { DAMPING * mean } else { 0.0 };
                left.iter().map(element).collect()
            });
            let inverse = inverse(h.collect());
            out[column] = nearest(column, w[column]);
            let error = (w[column] - out[column]) / inverse[0][0];
            for (k, &other) in left.iter().enumerate().skip(1) {
                w[other] -= error * inverse[k][0];
            }
            left.remove(0);
        }
        out
    }

    fn coded(form: &str, values: &[f32], shape: &[usize]) -> (Coded, Vec<f32>) {
        let weight = described(values, shape);
        let compression: Compression = form.parse().unwrap();
        let coded = crate::rewrite::encode(&weight, &compression.steps, Opset::Ios18).unwrap();
        let decoded = coded.decode();
        (coded, decoded)
    }

    fn described<'a>(values: &'a [f32], shape: &'a [usize]) -> FloatWeight<'a> {
        FloatWeight {
            values,
            shape,
            dtype: DType::Fp32,
            output_axis: Some(0),
            input_axis: Some(1),
            vector_limit: None,
            prunes_in_patterns: true,
        }
    }

    fn prepared(of: &Moments) -> Inverse {
        Inverse::new(of).unwrap()
    }

    #[test]
    fn rounds_as_the_definition() {
        let (rows, columns) = (9, 12);
        let values = numbers(rows * columns, 5);
        let of = moments(&inputs(200, columns), columns);
        for form in ["int4", "int8:block=4,asymmetric", "uint4", "palette2", "palette3:group=3"] {
            let (mut coded, before) = coded(form, &values, &[rows, columns]);
            let grid = Grid::new(&coded).unwrap();
            let layout = Rows { rows, columns, transposed: false };
            assert!(round(&mut coded, &described(&values, &[rows, columns]), layout, &prepared(&of)));
            let after = coded.decode();
            for row in 0..rows {
                let nearest = |c: usize, x: f64| f64::from(grid.nearest(row * columns + c, x as f32).1);
                let expected = by_definition(&values[row * columns..][..columns], &of, &nearest);
                for (c, e) in expected.iter().enumerate() {
                    assert!((f64::from(after[row * columns + c]) - e).abs() < 1e-5, "{form}: {row} {c}");
                }
            }
            let snr = |decoded: &[f32]| output_snr_db(&values, decoded, layout, &of);
            assert!(snr(&after) > snr(&before) + 1.0, "{form}: {} {}", snr(&before), snr(&after));
        }
    }

    #[test]
    fn columns_may_lie_one_after_the_other() {
        let (rows, columns) = (9, 12);
        let values = numbers(rows * columns, 6);
        let turned: Vec<f32> = (0..columns)
            .flat_map(|c| (0..rows).map(move |r| (r, c)))
            .map(|(r, c)| values[r * columns + c])
            .collect();
        let of = moments(&inputs(200, columns), columns);
        let (mut a, _) = coded("palette2", &values, &[rows, columns]);
        let (mut b, _) = coded("palette2", &turned, &[columns, rows]);
        assert!(round(
            &mut a,
            &described(&values, &[rows, columns]),
            Rows { rows, columns, transposed: false },
            &prepared(&of)
        ));
        assert!(round(
            &mut b,
            &described(&turned, &[columns, rows]),
            Rows { rows, columns, transposed: true },
            &prepared(&of)
        ));
        let (a, b) = (a.decode(), b.decode());
        assert!((0..rows * columns).all(|i| a[i] == b[i % columns * rows + i / columns]));
    }

    #[test]
    fn pruned_elements_stay_zero_and_inputs_of_zero_are_harmless() {
        let (rows, columns) = (8, 12);
        let values = numbers(rows * columns, 7);
        let mut vectors = inputs(100, columns);
        vectors.chunks_exact_mut(columns).for_each(|v| v[3] = 0.0);
        let of = moments(&vectors, columns);
        let (mut coded, before) = coded("prune:sparsity=0.5+int8", &values, &[rows, columns]);
        let layout = Rows { rows, columns, transposed: false };
        assert!(round(&mut coded, &described(&values, &[rows, columns]), layout, &prepared(&of)));
        let after = coded.decode();
        assert!(before.iter().zip(&after).all(|(a, b)| (*a == 0.0) <= (*b == 0.0)));
        assert!(output_snr_db(&values, &after, layout, &of) > output_snr_db(&values, &before, layout, &of));
        let zeros = moments(&vec![0.0; columns * 10], columns);
        assert!(Inverse::new(&zeros).is_none());
    }

    #[test]
    fn bias_is_what_the_mean_loses() {
        let (rows, columns) = (3, 5);
        let values = numbers(rows * columns, 8);
        let vectors = inputs(50, columns);
        let (_, decoded) = coded("int4", &values, &[rows, columns]);
        let layout = Rows { rows, columns, transposed: false };
        let found = bias(&values, &decoded, layout, &moments(&vectors, columns));
        for (row, found) in found.iter().enumerate() {
            let output = |w: &[f32], v: &[f32]| -> f64 {
                w[row * columns..][..columns].iter().zip(v).map(|(w, v)| f64::from(*w) * f64::from(*v)).sum()
            };
            let lost =
                vectors.chunks_exact(columns).map(|v| output(&values, v) - output(&decoded, v)).sum::<f64>()
                    / 50.0;
            assert!((found - lost).abs() < 1e-6);
        }
    }
}
