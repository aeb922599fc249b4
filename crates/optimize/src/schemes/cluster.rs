//! Optimal one-dimensional clustering.
//!
//! Finds the `k` centers that minimize the squared error of a weight tensor: `k`-means in one dimension, which can be
//! solved exactly. The values are first counted in bins, one for each fp16 number; however large the tensor, there are
//! at most 65536 bins.
//!
//! Clusters of sorted values are intervals, so dynamic programming over the bins finds the best ones (Wu 1991):
//! `best[m][j]` is the least error of the first `j` bins in `m` clusters, computed from `best[m - 1]`. The best start
//! of the last cluster never decreases with `j`, so divide and conquer fills a row in O(n log n).
//!
//! ```text
//! bins            0 1 2 | 3 4 | 5 6 7 8 | 9       k = 4 clusters; `ends` = 0 3 5 9 10
//! best[4][10]  =  min over i of  best[3][i] + error of one cluster of bins i..10      (here i = 9)
//! ```
//!
//! Bins as wide as those of fp16 are too coarse for values that are close together and far from zero. The error that
//! bins add is known: if it is more than `HIDDEN` (2 %), the values are sorted and cut into narrower bins.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Values that are converted at a time.
const CHUNK: usize = 1024;

/// The values in a bin: how many, their sum, and the sum of their squares.
#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    count: f64,
    sum: f64,
    squares: f64,
}

/// Finds the `k` centers that minimize the sum of squared distances to `values` (fewer if there are fewer distinct
/// values), in ascending order.
///
/// fp16 values are clustered exactly, or nearly so: the search looks for the best borders near those of a rough
/// solution, then near the ones that it found, until no border is at the edge of where it looked. Other values are put
/// into bins first, and the result is then refined on the values themselves. Bins add no more than a small part
/// (`HIDDEN`) of the least error.
///
/// All values must be finite. `k` is at most 256.
pub fn cluster(values: &[f32], k: usize) -> Vec<f32> {
    let (bins, exact) = histogram(values, k);
    if exact {
        return from_rough(&bins, k);
    }
    let (mut centers, error) = optimal(&bins, k);
    if hidden(&bins) > HIDDEN * error {
        (centers, _) = optimal(&fitted(values), k);
    }
    refine(values, &mut centers);
    centers
}

/// Does the same for values that count differently: each squared distance is multiplied by a weight, which must be
/// positive.
pub fn weighted(values: &[f32], weights: &[f64], k: usize) -> Vec<f32> {
    const SHARE: usize = 1 << 13;
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = SHARE as f64 / (f64::from(high) - f64::from(low)).max(f64::MIN_POSITIVE);
    let mut bins = vec![Bin::default(); SHARE + 1];
    for (&x, &weight) in values.iter().zip(weights) {
        let bin = &mut bins[((f64::from(x) - f64::from(low)) * scale) as usize];
        let x = f64::from(x);
        bin.count += weight;
        bin.sum += weight * x;
        bin.squares += weight * x * x;
    }
    bins.retain(|b| b.count > 0.0);
    optimal(&bins, k).0
}

/// The largest part of the error that wide bins may add before narrower ones are made.
const HIDDEN: f64 = 0.02;

/// Returns the error inside bins: the squared distances of all values to the means of their bins. No choice of clusters
/// of bins can lower it.
fn hidden(bins: &[Bin]) -> f64 {
    bins.iter().map(|b| (b.squares - b.sum * b.sum / b.count).max(0.0)).sum()
}

/// Makes bins that are narrow enough for these values: each has at most a small share of the values, or of their range.
fn fitted(values: &[f32]) -> Vec<Bin> {
    const SHARE: usize = 1 << 14;
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let (Some(&low), Some(&high)) = (sorted.first(), sorted.last()) else { return Vec::new() };
    let most = (values.len() / SHARE).max(1) as f64;
    let widest = (f64::from(high) - f64::from(low)) / SHARE as f64;
    let mut bins: Vec<Bin> = Vec::with_capacity(2 * SHARE + 2);
    let (mut start, mut last) = (f64::NAN, f64::NAN);
    for x in sorted.into_iter().map(f64::from) {
        let full = bins.last().is_none_or(|b| b.count >= most || x - start > widest);
        // Equal values always share a bin.
        if full && x != last {
            bins.push(Bin::default());
            start = x;
        }
        last = x;
        let bin = bins.last_mut().expect("the first value makes the first bin");
        bin.count += 1.0;
        bin.sum += x;
        bin.squares += x * x;
    }
    bins
}

/// Returns the index of the nearest center for each value; ties go to the lower center. `centers` must ascend.
pub fn assign(values: &[f32], centers: &[f32]) -> Vec<u8> {
    let lookup = Lookup::new(centers);
    let mut indices = Vec::with_capacity(values.len());
    lookup.each_nearest(values, |_, i| indices.push(i));
    indices
}

/// Returns bins in ascending order, and whether every bin has only one distinct value.
fn histogram(values: &[f32], k: usize) -> (Vec<Bin>, bool) {
    // Scales by a power of two, which is exact, so that the largest value is near the top of fp16's range: nothing
    // overflows, and hardly anything is lost to subnormals.
    let largest = values.iter().fold(0f32, |m, x| m.max(x.abs()));
    let native = are_halves(values);
    let exponent = if native || largest == 0.0 { 0 } else { 14 - largest.log2().floor() as i32 };
    // In two steps, because one factor can be beyond f32's range.
    let scales = [2f32.powi(exponent / 2), 2f32.powi(exponent - exponent / 2)];
    // Values that are refined afterwards can start from coarser bins, each a fraction of a cluster wide.
    let shift = match (native, k) {
        (true, _) => 0,
        (false, ..=64) => 2,
        (false, _) => 1,
    };
    let mut bins = vec![Bin::default(); (1 << 16) >> shift];
    let (mut scaled, mut halves) = ([0f32; CHUNK], [f16::ZERO; CHUNK]);
    for values in values.chunks(CHUNK) {
        let (scaled, halves) = (&mut scaled[..values.len()], &mut halves[..values.len()]);
        scaled.iter_mut().zip(values).for_each(|(s, x)| *s = x * scales[0] * scales[1]);
        halves.convert_from_f32_slice(scaled);
        for (&x, &half) in values.iter().zip(&*halves) {
            let bin = &mut bins[order(half) >> shift];
            let x = f64::from(x);
            bin.count += 1.0;
            bin.sum += x;
            bin.squares += x * x;
        }
    }
    bins.retain(|b| b.count > 0.0);
    (bins, native)
}

/// Whether fp16 represents every value exactly.
fn are_halves(values: &[f32]) -> bool {
    let (mut halves, mut back) = ([f16::ZERO; CHUNK], [0f32; CHUNK]);
    values.chunks(CHUNK).all(|values| {
        let (halves, back) = (&mut halves[..values.len()], &mut back[..values.len()]);
        halves.convert_from_f32_slice(values);
        halves.convert_to_f32_slice(back);
        values == back
    })
}

/// Maps fp16 numbers to integers in the same order; -0 and 0 map to the same integer.
fn order(half: f16) -> usize {
    let bits = if half.to_bits() == 0x8000 { 0 } else { half.to_bits() };
    usize::from(if bits & 0x8000 != 0 { !bits } else { bits | 0x8000 })
}

/// Prefix sums, which give the sums over bins `from..to` in constant time.
struct Prefix {
    count: Vec<f64>,
    sum: Vec<f64>,
    squares: Vec<f64>,
}

impl Prefix {
    fn new(bins: &[Bin]) -> Prefix {
        // Shifts all values so that their mean is 0: distances stay the same, and the sums lose less precision.
        let total = bins.iter().map(|b| b.count).sum::<f64>();
        let mean = bins.iter().map(|b| b.sum).sum::<f64>() / total;
        let mut p = Prefix { count: vec![0.0], sum: vec![0.0], squares: vec![0.0] };
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for b in bins {
            count += b.count;
            sum += b.sum - mean * b.count;
            squares += b.squares - 2.0 * mean * b.sum + mean * mean * b.count;
            p.count.push(count);
            p.sum.push(sum);
            p.squares.push(squares);
        }
        p
    }

    /// Returns the squared distances of bins `from..to` to their mean.
    fn error(&self, from: usize, to: usize) -> f64 {
        let sum = self.sum[to] - self.sum[from];
        self.squares[to] - self.squares[from] - sum * sum / (self.count[to] - self.count[from])
    }
}

/// Returns the best centers of at most `k` clusters of bins, and their error.
fn optimal(bins: &[Bin], k: usize) -> (Vec<f32>, f64) {
    let n = bins.len();
    if n <= k {
        return (means(bins, &(0..=n).collect::<Vec<_>>()), hidden(bins));
    }
    let (ends, error) = best_ends(&Prefix::new(bins), &anywhere(n, k));
    (means(bins, &ends), error)
}

/// Does the same faster for many bins: first finds rough ends of clusters with wide bins, then searches near them only.
fn from_rough(bins: &[Bin], k: usize) -> Vec<f32> {
    /// The number of wide bins for each cluster, and the least number of wide bins.
    const WIDE: usize = 64;
    const LEAST_WIDE: usize = 1024;
    /// With more clusters than this, a cluster is too narrow for wide bins to find its ends.
    const MOST_CLUSTERS: usize = 64;
    /// The most searches, each around the ends of the one before, and the least distance it looks around an end.
    const MOST_SEARCHES: usize = 8;
    const FEW: usize = 8;
    let (wide, wide_ends) = widened(bins, (WIDE * k).max(LEAST_WIDE));
    if k > MOST_CLUSTERS || wide.len() <= 2 * k || 2 * wide.len() > bins.len() {
        return optimal(bins, k).0;
    }
    let (rough, _) = best_ends(&Prefix::new(&wide), &anywhere(wide.len(), k));
    let mut ends: Vec<usize> = rough.iter().map(|&i| wide_ends[i]).collect();
    let (prefix, limits) = (Prefix::new(bins), anywhere(bins.len(), k));
    for _ in 0..MOST_SEARCHES {
        // From half way to the end before up to half way to the next end, but at least a few bins.
        let window = |(m, w): (usize, &[usize])| {
            let (first, last) = limits[m + 1];
            let low = w[0].midpoint(w[1]).min(w[1].saturating_sub(FEW)).max(first);
            (low, w[1].midpoint(w[2]).max(w[1] + FEW).min(last))
        };
        let mut windows = vec![limits[0]];
        windows.extend(ends.windows(3).enumerate().map(window));
        windows.push(limits[k]);
        (ends, _) = best_ends(&prefix, &windows);
        let inside = |m: usize| {
            let (end, (low, high), (first, last)) = (ends[m], windows[m], limits[m]);
            (low < end || low == first) && (end < high || high == last)
        };
        if (0..=k).all(inside) {
            return means(bins, &ends);
        }
    }
    optimal(bins, k).0
}

/// Joins neighboring bins into wide ones, each a share of the range. Also returns where each wide bin ends, after a 0.
fn widened(bins: &[Bin], shares: usize) -> (Vec<Bin>, Vec<usize>) {
    let value = |b: &Bin| b.sum / b.count;
    let (mut wide, mut ends) = (Vec::with_capacity(shares + 1), vec![0]);
    let (Some(low), Some(high)) = (bins.first().map(value), bins.last().map(value)) else {
        return (wide, ends);
    };
    let scale = shares as f64 / (high - low).max(f64::MIN_POSITIVE);
    let share = |b: &Bin| ((value(b) - low) * scale) as usize;
    for joined in bins.chunk_by(|a, b| share(a) == share(b)) {
        let total = |f: fn(&Bin) -> f64| joined.iter().map(f).sum();
        wide.push(Bin { count: total(|b| b.count), sum: total(|b| b.sum), squares: total(|b| b.squares) });
        ends.push(ends[ends.len() - 1] + joined.len());
    }
    (wide, ends)
}

/// Returns the mean of each cluster. `ends` has the end of each cluster, after a 0.
fn means(bins: &[Bin], ends: &[usize]) -> Vec<f32> {
    let mean = |w: &[usize]| {
        let (mut count, mut sum) = (0.0, 0.0);
        bins[w[0]..w[1]].iter().for_each(|b| (count, sum) = (count + b.count, sum + b.sum));
        (sum / count) as f32
    };
    ends.windows(2).map(mean).collect()
}

/// Returns the possible ends of `k` clusters of `n` bins: for each cluster, the first and the last. The first entry is
/// the end of no cluster, 0.
fn anywhere(n: usize, k: usize) -> Vec<(usize, usize)> {
    (0..=k)
        .map(|m| {
            if m == 0 {
                (0, 0)
            } else if m == k {
                (n, n)
            } else {
                (m, n - k + m)
            }
        })
        .collect()
}

/// Returns the ends with the least error, each within its window, and that error.
fn best_ends(prefix: &Prefix, windows: &[(usize, usize)]) -> (Vec<usize>, f64) {
    let mut best = vec![0.0];
    let mut starts: Vec<Vec<u16>> = Vec::with_capacity(windows.len());
    for pair in windows.windows(2) {
        let (before, (low, high)) = (pair[0], pair[1]);
        let len = high - low + 1;
        let mut row =
            Row { prefix, previous: &best, before, low, best: vec![f64::INFINITY; len], start: vec![0; len] };
        row.fill(low, high, before.0, before.1);
        (best, _) = (row.best, starts.push(row.start));
    }
    let error = best[0];
    let mut ends = vec![windows[windows.len() - 1].0];
    for (start, (low, _)) in starts.iter().zip(&windows[1..]).rev() {
        let end = ends[ends.len() - 1];
        ends.push(usize::from(start[end - low]));
    }
    ends.reverse();
    (ends, error)
}

/// One row of the table: the least errors with one more cluster.
struct Row<'a> {
    prefix: &'a Prefix,
    /// The least errors with one cluster less, for ends from `before.0` to `before.1`.
    previous: &'a [f64],
    before: (usize, usize),
    /// The end that the first elements of `best` and `start` are for.
    low: usize,
    best: Vec<f64>,
    /// For each end, the start of the last cluster. Bins are few enough that indices fit 16 bits.
    start: Vec<u16>,
}

impl Row<'_> {
    /// Fills the ends `from..=to`, whose last clusters start in `low..=high`. The recursion's depth is logarithmic.
    fn fill(&mut self, from: usize, to: usize, low: usize, high: usize) {
        if from > to {
            return;
        }
        let end = from.midpoint(to);
        let (best, start) = self.least(low, high.min(end - 1), end);
        self.best[end - self.low] = best;
        self.start[end - self.low] = start as u16;
        self.fill(from, end - 1, low, start);
        self.fill(end + 1, to, start, high);
    }

    /// The least error of an end, with the last cluster from one of `low..=high`, and the first start that has it.
    fn least(&self, low: usize, high: usize, end: usize) -> (f64, usize) {
        // Errors are computed side by side, so that vector instructions can be used, and then compared.
        const LANES: usize = 8;
        let (mut best, mut start) = (f64::INFINITY, low);
        let p = self.prefix;
        let (count, sum, squares) = (p.count[end], p.sum[end], p.squares[end]);
        let mut at = low;
        while at + LANES <= high + 1 {
            let of = |all: &[f64], from: usize| -> [f64; LANES] {
                all[from..from + LANES].try_into().expect("as many as there are lanes")
            };
            let previous = of(self.previous, at - self.before.0);
            let (counts, sums, squared) = (of(&p.count, at), of(&p.sum, at), of(&p.squares, at));
            let mut errors = [0f64; LANES];
            for i in 0..LANES {
                let s = sum - sums[i];
                errors[i] = previous[i] + (squares - squared[i] - s * s / (count - counts[i]));
            }
            let least = errors.into_iter().fold(f64::INFINITY, |m, e| if e < m { e } else { m });
            if least < best {
                best = least;
                start = at + errors.iter().position(|e| *e == least).unwrap_or(0);
            }
            at += LANES;
        }
        for i in at..=high {
            let error = self.previous[i - self.before.0] + p.error(i, end);
            if error < best {
                (best, start) = (error, i);
            }
        }
        (best, start)
    }
}

/// Runs a few steps of Lloyd's algorithm from the centers that the bins gave. Each step can only lower the error.
fn refine(values: &[f32], centers: &mut [f32]) {
    for _ in 0..2 {
        let lookup = Lookup::new(centers);
        let mut sums = vec![(0f64, 0f64); centers.len()];
        lookup.each_nearest(values, |x, i| {
            let (count, sum) = &mut sums[usize::from(i)];
            *count += 1.0;
            *sum += f64::from(x);
        });
        let mut moved = false;
        for (center, (count, sum)) in centers.iter_mut().zip(sums) {
            let mean = if count > 0.0 { (sum / count) as f32 } else { *center };
            moved |= mean != *center;
            *center = mean;
        }
        if !moved {
            break;
        }
    }
}

/// A search for nearest centers. A table over the values' fp16 bins narrows each search to a few centers.
struct Lookup {
    /// The border between centers `i` and `i + 1`: values up to it belong to `i`.
    borders: Vec<f64>,
    /// For each group of fp16 numbers, the lowest center that a value in it can belong to.
    first: Vec<u8>,
}

/// The low bits that are dropped from fp16 numbers: numbers that differ only in them share an entry of the table.
const LOOKUP_SHIFT: usize = 4;

impl Lookup {
    fn new(centers: &[f32]) -> Lookup {
        let borders: Vec<f64> =
            centers.windows(2).map(|w| f64::from(w[0]).midpoint(f64::from(w[1]))).collect();
        let groups = 1 << (16 - LOOKUP_SHIFT);
        let mut lookup = Lookup { borders, first: vec![0; groups] };
        let mut first = 0;
        for group in 0..groups {
            // A value that rounds into this group is at least the largest fp16 number of the group before.
            if let Some(below) = group.checked_sub(1) {
                let ordered = ((below << LOOKUP_SHIFT) + (1 << LOOKUP_SHIFT) - 1) as u16;
                let half = f16::from_bits(if ordered & 0x8000 != 0 { ordered ^ 0x8000 } else { !ordered });
                // What rounds to zero may be below it: by up to half of the least fp16 number.
                let least = if half.to_f32() == 0.0 {
                    -f64::from(f32::from_bits(0x3300_0000))
                } else {
                    f64::from(half)
                };
                while !half.is_nan() && first < lookup.borders.len() && lookup.borders[first] < least {
                    first += 1;
                }
            }
            lookup.first[group] = first as u8;
        }
        lookup
    }

    /// Calls `f` with each value and the index of its nearest center.
    fn each_nearest(&self, values: &[f32], mut f: impl FnMut(f32, u8)) {
        let mut halves = [f16::ZERO; CHUNK];
        for values in values.chunks(CHUNK) {
            let halves = &mut halves[..values.len()];
            halves.convert_from_f32_slice(values);
            for (&x, &half) in values.iter().zip(&*halves) {
                let mut i = usize::from(self.first[order(half) >> LOOKUP_SHIFT]);
                while i < self.borders.len() && f64::from(x) > self.borders[i] {
                    i += 1;
                }
                f(x, i as u8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(values: &[f32], centers: &[f32]) -> f64 {
        let nearest = |x: f32| {
            centers.iter().map(|&c| (f64::from(x) - f64::from(c)).powi(2)).fold(f64::INFINITY, f64::min)
        };
        values.iter().map(|&x| nearest(x)).sum()
    }

    /// A few thousand numbers that look like weights: a bell curve with a few outliers.
    fn weights(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut uniform = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 40) as f32 + 0.5) / (1u64 << 24) as f32
        };
        (0..n)
            .map(|i| {
                (0..6).map(|_| uniform() - 0.5).sum::<f32>() * if i.is_multiple_of(97) { 0.9 } else { 0.1 }
            })
            .collect()
    }

    /// The definition: the least error over every way to cut the sorted values.
    fn brute_force(sorted: &[f32], k: usize) -> f64 {
        let spread = |v: &[f32]| {
            let mean = v.iter().map(|&x| f64::from(x)).sum::<f64>() / v.len() as f64;
            v.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>()
        };
        if k == 1 {
            return spread(sorted);
        }
        (k - 1..sorted.len())
            .map(|i| brute_force(&sorted[..i], k - 1) + spread(&sorted[i..]))
            .fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn finds_the_optimum() {
        for seed in 0..20 {
            let mut values: Vec<f32> = weights(14, seed).iter().map(|&x| f16::from_f32(x).to_f32()).collect();
            values.sort_by(f32::total_cmp);
            for k in 1..=5 {
                let centers = cluster(&values, k);
                let (found, best) = (error(&values, &centers), brute_force(&values, k));
                assert!(found <= best * (1.0 + 1e-5) + 1e-12, "seed {seed}, k {k}: {found} > {best}");
            }
        }
    }

    #[test]
    fn narrow_distributions_get_narrow_bins() {
        // Around 1, around ±1, and nearly all around 1: fp16 bins cannot tell these apart.
        let bell = weights(20_000, 3);
        let around = |c: f32, x: f32| c + x * 1e-3;
        let one: Vec<f32> = bell.iter().map(|&x| around(1.0, x)).collect();
        let signs = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
        let two: Vec<f32> = bell.iter().enumerate().map(|(i, &x)| around(signs(i), x)).collect();
        let most: Vec<f32> = bell
            .iter()
            .enumerate()
            .map(|(i, &x)| if i.is_multiple_of(100) { x } else { around(1.0, x) })
            .collect();
        for values in [one, two, most] {
            for k in [16, 256] {
                let centers = cluster(&values, k);
                assert_eq!(centers.len(), k);
                let mut more = centers.clone();
                (0..50).for_each(|_| refine(&values, &mut more));
                let (found, better) = (error(&values, &centers), error(&values, &more));
                assert!(found <= better * 1.05, "{k}: {found} > {better}");
            }
        }
    }

    #[test]
    fn a_rough_start_finds_the_optimum() {
        for seed in 0..3 {
            let halves: Vec<f32> = weights(30_000, seed).iter().map(|&x| f16::from_f32(x).to_f32()).collect();
            for k in [2, 4, 16, 64] {
                let (bins, exact) = histogram(&halves, k);
                assert!(exact);
                let (found, best) = (cluster(&halves, k), optimal(&bins, k).0);
                assert!(error(&halves, &found) <= error(&halves, &best) * (1.0 + 1e-6), "seed {seed}, k {k}");
            }
        }
    }

    #[test]
    fn few_values_are_kept() {
        assert_eq!(cluster(&[3.0, -1.0, 3.0, 0.5], 4), [-1.0, 0.5, 3.0]);
        assert_eq!(cluster(&[0.0; 100], 16), [0.0]);
        assert_eq!(cluster(&[1e30, -1e30, 1e-3], 4), [-1e30, 1e-3, 1e30]);
    }

    #[test]
    fn assigns_the_nearest() {
        for (k, seed, scale) in
            [(2, 1, 1.0), (16, 2, 1.0), (256, 3, 1.0), (16, 4, 1e-6), (16, 5, 1e-8), (16, 6, 1e-12)]
        {
            let mut values = weights(5000, seed);
            values.iter_mut().for_each(|x| *x *= scale);
            values.extend([1e30, -1e30, 65504.0, 70000.0, 1e-10, -1e-10, 0.0, -0.0]);
            let centers = cluster(&values[..5000], k);
            for (&x, &i) in values.iter().zip(&assign(&values, &centers)) {
                let distance = |c: f32| (f64::from(x) - f64::from(c)).abs();
                let best = centers.iter().map(|&c| distance(c)).fold(f64::INFINITY, f64::min);
                assert_eq!(distance(centers[usize::from(i)]), best, "{x}");
            }
        }
    }

    #[test]
    fn bins_cost_next_to_nothing() {
        // A long run of Lloyd's algorithm from the result finds nothing better.
        let values = weights(20_000, 7);
        let centers = cluster(&values, 16);
        let mut more = centers.clone();
        (0..50).for_each(|_| refine(&values, &mut more));
        assert!(error(&values, &centers) <= error(&values, &more) * 1.001);
    }
}
