//! Clustering of vectors: k-means in a few dimensions.
//!
//! Unlike in one dimension, the best centers cannot be computed. They are found on a sample of the vectors: k-means++
//! for the start, Lloyd's algorithm until little changes, and then rounds that move the center that is missed least to
//! where the error is largest. A last pass over all vectors makes each center the mean of its vectors.

/// The vectors of the sample: this many for each center, but at least so many.
const SAMPLE: usize = 192;
const LEAST_SAMPLE: usize = 1 << 13;

/// The most rounds of Lloyd's algorithm, and the part of the error that a round must save for another one.
const ROUNDS: usize = 60;
const GAIN: f64 = 1e-4;

/// The least number of rounds over all vectors.
const LAST_ROUNDS: usize = 2;

/// The most starts, and the most pairs of a vector and a center in all of them.
const MOST_STARTS: usize = 8;
const MOST_TRIED: usize = 1 << 21;

/// How often centers are moved: fewer at once each time.
const MOVES: usize = 8;

/// Returns at most `k` centers for vectors of `d` elements, one after the other, and the index of a near one for each
/// vector. Centers are rounded by `round`, before the nearest ones are chosen. `k` is at most 256; all elements must be
/// finite.
pub(super) fn cluster(
    points: &[f32],
    d: usize,
    k: usize,
    round: &dyn Fn(&[f32]) -> Vec<f32>,
) -> (Vec<f32>, Vec<u8>) {
    let n = points.len() / d;
    if let Some(few) = distinct(points, d, k) {
        let indices = Nearest::new(&few, d, points).all(points).0;
        return (few, indices);
    }
    let size = (SAMPLE * k).max(LEAST_SAMPLE);
    let sample = if n <= 2 * size { points.to_vec() } else { sampled(points, d, size) };
    // Few vectors are clustered from several starts.
    let starts = (MOST_TRIED / (sample.len() / d * k)).clamp(1, MOST_STARTS) as u64;
    let run = |seed| {
        let mut centers = start(&sample, d, k, seed);
        let error = lloyd(&sample, d, &mut centers);
        (centers, error)
    };
    let best = (0..starts).map(run).reduce(|a, b| if b.1 < a.1 { b } else { a });
    let Some((mut centers, mut error)) = best else { return (Vec::new(), Vec::new()) };
    let mut left = MOVES;
    while left > 0 {
        left -= 1;
        let mut moved = centers.clone();
        if !move_centers(&sample, d, &mut moved, (left + 1) * k / 64) {
            break;
        }
        let found = lloyd(&sample, d, &mut moved);
        if found < error {
            (centers, error) = (moved, found);
        }
    }
    // All of them settle further what a sample, or rounds that end early, left.
    let mut last = f64::INFINITY;
    for _ in 1..LAST_ROUNDS.max(MOST_TRIED / (n * k)) {
        let (indices, error) = Nearest::new(&centers, d, points).all(points);
        means(points, d, &indices, &mut centers);
        if error >= last {
            break;
        }
        last = error;
    }
    let centers = round(&centers);
    let indices = assign(points, d, &centers);
    (centers, indices)
}

/// Returns the index of the nearest center for each vector.
fn assign(points: &[f32], d: usize, centers: &[f32]) -> Vec<u8> {
    Nearest::new(centers, d, points).all(points).0
}

/// The distinct vectors, if there are at most `k`.
fn distinct(points: &[f32], d: usize, k: usize) -> Option<Vec<f32>> {
    let mut seen: std::collections::HashSet<Vec<u32>> = std::collections::HashSet::new();
    let mut found = Vec::new();
    for point in points.chunks_exact(d) {
        // Zero and minus zero are one value.
        let key: Vec<u32> = point.iter().map(|x| (x + 0.0).to_bits()).collect();
        if seen.insert(key) {
            if seen.len() > k {
                return None;
            }
            found.extend_from_slice(point);
        }
    }
    Some(found)
}

/// A sequence of numbers that look random, and are the same every time.
struct Random(u64);

impl Random {
    /// The next number below `n`.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// The next number between 0 and 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The generator splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// One vector of each of `count` ranges, so that the sample covers the tensor evenly.
fn sampled(points: &[f32], d: usize, count: usize) -> Vec<f32> {
    let n = points.len() / d;
    let mut random = Random(1);
    let mut sample = Vec::with_capacity(count * d);
    for i in 0..count {
        let (from, to) = (i * n / count, (i + 1) * n / count);
        let at = from + random.below(to - from);
        sample.extend_from_slice(&points[at * d..(at + 1) * d]);
    }
    sample
}

fn squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// k-means++: each new center is a vector, chosen with a probability in proportion to its squared distance to the
/// nearest center so far; the best of a few such choices.
fn start(points: &[f32], d: usize, k: usize, seed: u64) -> Vec<f32> {
    const CHOICES: usize = 2;
    let n = points.len() / d;
    let mut random = Random(seed);
    let point = |i: usize| &points[i * d..(i + 1) * d];
    let mut centers = point(random.below(n)).to_vec();
    let mut nearest: Vec<f32> = points.chunks_exact(d).map(|p| squared(p, &centers)).collect();
    let mut best = vec![0f32; n];
    let mut tried = vec![0f32; n];
    while centers.len() < k * d {
        let total: f64 = nearest.iter().map(|&x| f64::from(x)).sum();
        let (mut least, mut chosen) = (f64::INFINITY, 0);
        let targets: Vec<f64> = (0..CHOICES).map(|_| random.unit() * total).collect();
        for target in targets {
            let mut sum = 0.0;
            let found = nearest.iter().position(|&x| {
                sum += f64::from(x);
                sum > target
            });
            let i = found.unwrap_or(n - 1);
            let center = point(i);
            let mut error = 0f64;
            for ((t, &near), p) in tried.iter_mut().zip(&nearest).zip(points.chunks_exact(d)) {
                *t = squared(p, center).min(near);
                error += f64::from(*t);
            }
            if error < least {
                (least, chosen) = (error, i);
                std::mem::swap(&mut best, &mut tried);
            }
        }
        std::mem::swap(&mut nearest, &mut best);
        centers.extend_from_slice(point(chosen));
    }
    centers
}

/// Runs Lloyd's algorithm, and returns the squared error.
fn lloyd(points: &[f32], d: usize, centers: &mut [f32]) -> f64 {
    let mut last = f64::INFINITY;
    for _ in 0..ROUNDS {
        let (indices, error) = Nearest::new(centers, d, points).all(points);
        if last - error <= GAIN * error {
            return error;
        }
        last = error;
        means(points, d, &indices, centers);
    }
    last
}

/// Makes each center the mean of its vectors; one without vectors stays.
fn means(points: &[f32], d: usize, indices: &[u8], centers: &mut [f32]) {
    let mut sums = vec![0f64; centers.len()];
    let mut counts = vec![0u64; centers.len() / d];
    for (p, &i) in points.chunks_exact(d).zip(indices) {
        counts[usize::from(i)] += 1;
        let sum = &mut sums[usize::from(i) * d..][..d];
        sum.iter_mut().zip(p).for_each(|(s, &x)| *s += f64::from(x));
    }
    for ((center, sum), &count) in centers.chunks_exact_mut(d).zip(sums.chunks_exact(d)).zip(&counts) {
        if count > 0 {
            center.iter_mut().zip(sum).for_each(|(c, s)| *c = (s / count as f64) as f32);
        }
    }
}

/// Moves the centers whose loss costs least to the clusters with the largest errors. Returns whether it moved any.
fn move_centers(points: &[f32], d: usize, centers: &mut [f32], most: usize) -> bool {
    let k = centers.len() / d;
    let indices = assign(points, d, centers);
    // The error of each cluster, the vector farthest from its center, and its number of vectors.
    let mut errors = vec![0f64; k];
    let mut spread = vec![0f64; centers.len()];
    let mut counts = vec![0usize; k];
    for (p, &i) in points.chunks_exact(d).zip(&indices) {
        let i = usize::from(i);
        counts[i] += 1;
        for ((s, x), c) in spread[i * d..].iter_mut().zip(p).zip(&centers[i * d..(i + 1) * d]) {
            let e = f64::from(x - c);
            *s += e * e;
            errors[i] += e * e;
        }
    }
    // What it costs to give the vectors of a center to the nearest other one.
    let cost = |i: usize| {
        let center = &centers[i * d..(i + 1) * d];
        let others = (0..k).filter(|&j| j != i);
        let near =
            others.map(|j| squared(center, &centers[j * d..(j + 1) * d])).fold(f32::INFINITY, f32::min);
        // The vectors near the other center are near it already.
        0.5 * f64::from(near) * counts[i] as f64
    };
    let costs: Vec<f64> = (0..k).map(cost).collect();
    let mut cheapest: Vec<usize> = (0..k).collect();
    cheapest.sort_by(|&a, &b| costs[a].total_cmp(&costs[b]));
    let mut worst: Vec<usize> = (0..k).collect();
    worst.sort_by(|&a, &b| errors[b].total_cmp(&errors[a]));
    let mut moved = false;
    for (&from, &to) in cheapest.iter().zip(&worst).take(most.max(1)) {
        // Splitting a cluster in two saves up to three quarters of its error along one dimension.
        let widest = (0..d).map(|v| spread[to * d + v]).fold(0.0, f64::max);
        if from == to || counts[to] < 2 || costs[from] >= 0.75 * widest {
            break;
        }
        let axis = (0..d).max_by(|&a, &b| spread[to * d + a].total_cmp(&spread[to * d + b])).unwrap_or(0);
        let step = (spread[to * d + axis] / counts[to] as f64).sqrt() as f32;
        let center = centers[to * d..(to + 1) * d].to_vec();
        centers[from * d..(from + 1) * d].copy_from_slice(&center);
        centers[from * d + axis] -= step;
        centers[to * d + axis] += step;
        moved = true;
    }
    moved
}

/// Finds nearest centers. In two dimensions a grid keeps, for each cell, the centers that can be nearest to a point in
/// it; otherwise all centers are compared.
struct Nearest<'a> {
    centers: &'a [f32],
    d: usize,
    /// The centers with the dimensions outside, padded to whole lanes.
    columns: Vec<f32>,
    lanes: usize,
    grid: Option<Grid>,
}

/// The number of centers that are compared at a time.
const LANES: usize = 8;

struct Grid {
    cells: usize,
    low: [f32; 2],
    scale: [f32; 2],
    /// The first candidate of each cell, and the end of the last.
    first: Vec<u32>,
    candidates: Vec<u8>,
}

/// The most cells of a grid in each dimension, and the number of points that make a cell worthwhile.
const CELLS: usize = 64;
const POINTS_PER_CELL: usize = 8;

impl<'a> Nearest<'a> {
    fn new(centers: &'a [f32], d: usize, points: &[f32]) -> Nearest<'a> {
        let k = centers.len() / d;
        let lanes = k.next_multiple_of(LANES);
        let mut columns = vec![f32::INFINITY; lanes * d];
        for (i, center) in centers.chunks_exact(d).enumerate() {
            center.iter().enumerate().for_each(|(v, &c)| columns[v * lanes + i] = c);
        }
        let cells = (points.len() / (2 * POINTS_PER_CELL)).isqrt().min(CELLS);
        let worthwhile = d == 2 && k >= 8 && cells >= 8;
        let grid = worthwhile.then(|| Grid::new(centers, cells)).flatten();
        Nearest { centers, d, columns, lanes, grid }
    }

    /// The nearest center of each point, and the squared error.
    fn all(&self, points: &[f32]) -> (Vec<u8>, f64) {
        let mut indices = Vec::with_capacity(points.len() / self.d);
        let mut error = 0f64;
        if let Some(grid) = &self.grid {
            for p in points.chunks_exact(2) {
                let (i, e) = match grid.cell(p) {
                    Some(candidates) => self.best_of(p, candidates),
                    None => self.best(p),
                };
                indices.push(i);
                error += f64::from(e);
            }
            return (indices, error);
        }
        for p in points.chunks_exact(self.d) {
            let (i, e) = self.best(p);
            indices.push(i);
            error += f64::from(e);
        }
        (indices, error)
    }

    fn best_of(&self, p: &[f32], candidates: &[u8]) -> (u8, f32) {
        let (mut index, mut least) = (0, f32::INFINITY);
        for &i in candidates {
            let c = &self.centers[2 * usize::from(i)..][..2];
            let (x, y) = (p[0] - c[0], p[1] - c[1]);
            let e = x * x + y * y;
            if e < least {
                (index, least) = (i, e);
            }
        }
        (index, least)
    }

    fn best(&self, p: &[f32]) -> (u8, f32) {
        let mut least = [f32::INFINITY; LANES];
        let mut at = [0u32; LANES];
        for base in (0..self.lanes).step_by(LANES) {
            let mut e = [0f32; LANES];
            for (v, &x) in p.iter().enumerate() {
                let column = &self.columns[v * self.lanes + base..][..LANES];
                for (e, c) in e.iter_mut().zip(column) {
                    let y = x - c;
                    *e += y * y;
                }
            }
            for i in 0..LANES {
                let closer = e[i] < least[i];
                least[i] = if closer { e[i] } else { least[i] };
                at[i] = if closer { base as u32 } else { at[i] };
            }
        }
        let mut best = (at[0], least[0]);
        for i in 1..LANES {
            let candidate = at[i] + i as u32;
            if least[i] < best.1 || (least[i] == best.1 && candidate < best.0) {
                best = (candidate, least[i]);
            }
        }
        (best.0 as u8, best.1)
    }
}

impl Grid {
    /// `None` if all centers lie on a line along a dimension.
    fn new(centers: &[f32], cells: usize) -> Option<Grid> {
        let (mut low, mut high) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
        for c in centers.chunks_exact(2) {
            for v in 0..2 {
                (low[v], high[v]) = (low[v].min(c[v]), high[v].max(c[v]));
            }
        }
        let size = [(high[0] - low[0]) / cells as f32, (high[1] - low[1]) / cells as f32];
        let scale = [1.0 / size[0], 1.0 / size[1]];
        if !scale.iter().all(|s| s.is_finite() && *s > 0.0) || !size.iter().all(|s| s.is_finite() && *s > 0.0)
        {
            return None;
        }
        // From the middle of a cell to its corner, and a little more for rounding.
        let radius = 0.5001 * (size[0] * size[0] + size[1] * size[1]).sqrt();
        let (mut first, mut candidates) = (vec![0], Vec::new());
        let mut distances = vec![0f32; centers.len() / 2];
        for y in 0..cells {
            for x in 0..cells {
                let middle = [low[0] + (x as f32 + 0.5) * size[0], low[1] + (y as f32 + 0.5) * size[1]];
                let mut least = f32::INFINITY;
                for (e, c) in distances.iter_mut().zip(centers.chunks_exact(2)) {
                    *e = squared(c, &middle);
                    least = least.min(*e);
                }
                let limit = (least.sqrt() + 2.0 * radius).powi(2) * 1.0001;
                candidates.extend((0..=255u8).zip(&distances).filter(|(_, e)| **e <= limit).map(|(i, _)| i));
                first.push(candidates.len() as u32);
            }
        }
        Some(Grid { cells, low, scale, first, candidates })
    }

    /// The candidates for a point; `None` outside the grid.
    fn cell(&self, p: &[f32]) -> Option<&[u8]> {
        let x = (p[0] - self.low[0]) * self.scale[0];
        let y = (p[1] - self.low[1]) * self.scale[1];
        let end = self.cells as f32;
        if !(0.0..end).contains(&x) || !(0.0..end).contains(&y) {
            return None;
        }
        let cell = y as usize * self.cells + x as usize;
        Some(&self.candidates[self.first[cell] as usize..self.first[cell + 1] as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(n: usize, seed: u64) -> Vec<f32> {
        let mut random = Random(seed);
        (0..n).map(|_| ((0..6).map(|_| random.unit()).sum::<f64>() - 3.0) as f32).collect()
    }

    fn error(points: &[f32], d: usize, centers: &[f32], indices: &[u8]) -> f64 {
        let points = points.chunks_exact(d).zip(indices);
        points.map(|(p, &i)| f64::from(squared(p, &centers[usize::from(i) * d..][..d]))).sum()
    }

    #[test]
    fn finds_the_nearest_center() {
        for (d, k) in [(1, 16), (2, 4), (2, 16), (2, 256), (3, 50), (4, 256)] {
            let points = normal(d * 9000, 3);
            let centers = normal(d * k, 4);
            let indices = assign(&points, d, &centers);
            for (p, &i) in points.chunks_exact(d).zip(&indices) {
                let least = centers.chunks_exact(d).map(|c| squared(p, c)).fold(f32::INFINITY, f32::min);
                let found = squared(p, &centers[usize::from(i) * d..][..d]);
                assert!(found <= least * 1.000_001, "{d} {k}: {found} {least}");
            }
        }
    }

    /// Clusters that lie apart are found, whatever the start.
    #[test]
    fn separate_clusters_are_found() {
        for d in [2, 4] {
            let corner = |c: usize, v: usize| if c >> v & 1 == 1 { 10.0 } else { -10.0 };
            let noise = normal(d * 8000, 5);
            let points: Vec<f32> = noise
                .chunks_exact(d)
                .enumerate()
                .flat_map(|(i, p)| p.iter().enumerate().map(move |(v, x)| x * 0.1 + corner(i, v)))
                .collect();
            let (centers, indices) = cluster(&points, d, 1 << d, &<[f32]>::to_vec);
            let each = error(&points, d, &centers, &indices) / points.len() as f64;
            assert!(each < 0.01, "{d}: {each}");
        }
    }

    /// A long run from other starts does not find much better.
    #[test]
    fn little_is_left_to_gain() {
        for (d, k, n) in [(2, 16, 40_000), (2, 256, 100_000), (4, 64, 40_000)] {
            let points = normal(d * n, 6);
            let (centers, indices) = cluster(&points, d, k, &<[f32]>::to_vec);
            let found = error(&points, d, &centers, &indices);
            let mut more = centers.clone();
            for _ in 0..50 {
                let indices = assign(&points, d, &more);
                means(&points, d, &indices, &mut more);
            }
            let better = error(&points, d, &more, &assign(&points, d, &more));
            assert!(found <= 1.03 * better, "{d} {k}: {found} {better}");
        }
    }

    #[test]
    fn few_vectors_are_kept() {
        let points = [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 0.0, -0.0];
        let (centers, indices) = cluster(&points, 2, 4, &<[f32]>::to_vec);
        assert_eq!(centers, [1.0, 2.0, 3.0, 4.0, 0.0, 0.0]);
        assert_eq!(indices, [0, 1, 0, 2]);
    }
}
