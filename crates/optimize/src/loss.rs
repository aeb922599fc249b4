//! The error of weights that are stored in another form.

use half::f16;
use half::slice::HalfFloatSliceExt;
use milwright_mil::DType;

/// Values that are measured at a time.
const CHUNK: usize = 1024;

/// Sums that are formed side by side, so that vector instructions can be used.
const LANES: usize = 16;

/// The error of values that were stored in another form.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loss {
    signal: f64,
    noise: f64,
    /// The largest absolute error.
    pub max: f64,
}

impl Loss {
    /// Measures the error of storing `after`, rounded to `dtype`, instead of `before`.
    pub fn of(before: &[f32], after: impl IntoIterator<Item = f32>, dtype: DType) -> Loss {
        let mut rounded = [0f32; CHUNK];
        let mut after = after.into_iter();
        let mut loss = Loss::default();
        for before in before.chunks(CHUNK) {
            let rounded = &mut rounded[..before.len()];
            rounded.iter_mut().zip(&mut after).for_each(|(r, x)| *r = x);
            loss.add(before, rounded, dtype);
        }
        loss
    }

    /// As [`of`](Loss::of), for as many values.
    pub fn of_slices(before: &[f32], after: &[f32], dtype: DType) -> Loss {
        let mut rounded = [0f32; CHUNK];
        let mut loss = Loss::default();
        for (before, after) in before.chunks(CHUNK).zip(after.chunks(CHUNK)) {
            let rounded = &mut rounded[..after.len()];
            rounded.copy_from_slice(after);
            loss.add(before, rounded, dtype);
        }
        loss
    }

    /// Adds a chunk.
    fn add(&mut self, before: &[f32], after: &mut [f32], dtype: DType) {
        if dtype == DType::Fp16 {
            let mut halves = [f16::ZERO; CHUNK];
            let halves = &mut halves[..after.len()];
            halves.convert_from_f32_slice(after);
            halves.convert_to_f32_slice(after);
        }
        let largest = largest(before).max(largest(after));
        if largest == 0.0 {
            return;
        }
        // Squares of such numbers are far from the ends of f32, and sums of 64 of them lose nothing that a figure shows.
        if (1e-15..1e15).contains(&largest) {
            let (mut signal, mut noise, mut max) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
            let scale = largest.recip();
            let mut lanes = |before: &[f32], after: &[f32]| {
                for (i, (a, b)) in before.iter().zip(after).enumerate() {
                    let (scaled, error) = (a * scale, (a - b) * scale);
                    signal[i] += scaled * scaled;
                    noise[i] += error * error;
                    max[i] = if error.abs() > max[i] { error.abs() } else { max[i] };
                }
            };
            let (chunks, others) = (before.chunks_exact(LANES), after.chunks_exact(LANES));
            let rest = (chunks.remainder(), others.remainder());
            for (a, b) in chunks.zip(others) {
                lanes(a, b);
            }
            lanes(rest.0, rest.1);
            let square = f64::from(largest) * f64::from(largest);
            let max = f64::from(largest) * f64::from(max.into_iter().fold(0f32, f32::max));
            let noise = square * noise.iter().map(|&x| f64::from(x)).sum::<f64>();
            self.signal += square * signal.iter().map(|&x| f64::from(x)).sum::<f64>();
            // An error whose square f32 does not hold is one, too.
            self.noise += if noise == 0.0 { max * max } else { noise };
            self.max = self.max.max(max);
            return;
        }
        for (&a, &b) in before.iter().zip(&*after) {
            let (a, e) = (f64::from(a), f64::from(a) - f64::from(b));
            self.signal += a * a;
            self.noise += e * e;
            self.max = self.max.max(e.abs());
        }
    }

    /// Returns the signal-to-noise ratio in dB; infinite if nothing was lost.
    pub fn snr_db(&self) -> f64 {
        if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() }
    }
}

/// The largest magnitude; infinite if there is one that is no number, so that it is not taken for small.
fn largest(values: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let most = |m: f32, x: f32| if x.abs() <= m { m } else { x.abs() };
    let rest = chunks.remainder().iter().fold(0f32, |m, &x| most(m, x));
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = most(*lane, x);
        }
    }
    let all = lanes.into_iter().fold(rest, most);
    if all.is_nan() { f32::INFINITY } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in f64.
    fn expected(before: &[f32], after: &[f32]) -> (f64, f64) {
        let pairs = || before.iter().zip(after).map(|(&a, &b)| (f64::from(a), f64::from(a) - f64::from(b)));
        let (signal, noise) = pairs().fold((0.0, 0.0), |(s, n), (a, e)| (s + a * a, n + e * e));
        (10.0 * (signal / noise).log10(), pairs().fold(0.0, |m, (_, e)| f64::max(m, e.abs())))
    }

    #[test]
    fn figures_are_those_of_the_definition() {
        for scale in [1e-36f32, 1e-20, 1e-6, 1.0, 3e4, 1e20, 1e37] {
            for n in [1usize, 15, 16, 1024, 1025, 5000] {
                let before: Vec<f32> =
                    (0..n).map(|i| ((i * 7919 % 1009) as f32 / 1009.0 - 0.4) * scale).collect();
                let after: Vec<f32> =
                    before.iter().enumerate().map(|(i, x)| x + (i % 7) as f32 * 1e-3 * x).collect();
                let after: Vec<f32> = after.iter().map(|x| x + 1e-4 * scale).collect();
                let (db, max) = expected(&before, &after);
                for found in [
                    Loss::of(&before, after.iter().copied(), DType::Fp32),
                    Loss::of_slices(&before, &after, DType::Fp32),
                ] {
                    assert!((found.snr_db() - db).abs() < 1e-4, "{scale} {n}: {} {db}", found.snr_db());
                    assert!((found.max / max - 1.0).abs() < 1e-5, "{scale} {n}: {} {max}", found.max);
                }
            }
        }
        let values = [1.5f32, -2.0, 0.0, 65504.0];
        assert_eq!(Loss::of_slices(&values, &values, DType::Fp16).snr_db(), f64::INFINITY);
        assert_eq!(Loss::of_slices(&[0.0; 40], &[0.0; 40], DType::Fp32).snr_db(), f64::INFINITY);
        assert!(Loss::of_slices(&[1.0], &[f32::NAN], DType::Fp32).snr_db().is_nan());
        // What no f32 holds beside the largest still counts as an error.
        let found = Loss::of_slices(&[1.0, 1e-30], &[1.0, 0.0], DType::Fp32);
        assert!(found.snr_db().is_finite() && found.max > 0.0);
    }
}
