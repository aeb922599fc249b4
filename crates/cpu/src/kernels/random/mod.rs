//! Random tensors.

mod random_bernoulli;
mod random_categorical;
mod random_normal;
mod random_uniform;

use std::hash::{BuildHasher, RandomState};

use crate::convert::write_f32;
use crate::{KernelError, Prepared};

/// Fills the output. `element` makes each element from a random stream that belongs to this element only.
fn fill(
    seed: i64,
    element: impl Fn(&mut Draws) -> f32 + Send + Sync + 'static,
) -> Result<Prepared, KernelError> {
    /// Elements that are made at a time.
    const BLOCK: usize = 1024;
    let seed = self::seed(seed);
    Ok(Prepared::step(move |run| {
        let seed = seed.unwrap_or_else(fresh_seed);
        let out = &mut run.outputs[0];
        let (len, mut block) = (out.elements(), [0.0; BLOCK]);
        for start in (0..len).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(len - start)];
            for (i, x) in block.iter_mut().enumerate() {
                *x = element(&mut Draws::new(seed, start + i));
            }
            write_f32(out, start, block);
        }
        Ok(())
    }))
}

/// Reads the parameter `seed`; `None` if every run draws other numbers.
fn seed(seed: i64) -> Option<u64> {
    // Any negative seed means that there is none.
    u64::try_from(seed).ok()
}

/// Returns a seed from the system's source of randomness.
fn fresh_seed() -> u64 {
    RandomState::new().hash_one(0u64)
}

/// A stream of random numbers: SplitMix64, started at a hash of the seed and the element's number. An element therefore
/// does not depend on which other elements are computed, or when.
struct Draws(u64);

impl Draws {
    fn new(seed: u64, element: usize) -> Draws {
        let mut seed = Draws(seed);
        Draws(seed.next() ^ Draws(element as u64).next())
    }

    /// Returns a number uniform in [0, 1), a multiple of 2⁻²⁴ so that it is exact as `f32`.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 40) as f64 / (1u64 << 24) as f64
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    const COUNT: usize = 100_000;

    fn draw(kind: OpKind, parameters: &[(&str, Tensor)], seed: i32) -> Vec<f64> {
        let shape = Tensor::from_vec(&[2], vec![COUNT as i32 / 100, 100]).unwrap();
        let mut inputs = vec![("shape", shape), ("seed", Tensor::scalar(seed))];
        inputs.extend(parameters.iter().cloned());
        let inputs: Vec<_> = inputs.iter().map(|(n, t)| (*n, std::slice::from_ref(t))).collect();
        let out = run_op(kind, Opset::Ios15, &inputs, |_| true).unwrap().remove(0);
        assert_eq!(out.shape(), [COUNT / 100, 100]);
        out.to_f64()
    }

    /// Mean and variance.
    fn moments(x: &[f64]) -> (f64, f64) {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n)
    }

    #[test]
    fn uniform() {
        let limits = [("low", Tensor::scalar(-1f32)), ("high", Tensor::scalar(3f32))];
        let x = draw(OpKind::RandomUniform, &limits, 7);
        assert!(x.iter().all(|x| (-1.0..3.0).contains(x)));
        let (mean, variance) = moments(&x);
        assert!((mean - 1.0).abs() < 0.02 && (variance - 16.0 / 12.0).abs() < 0.02, "{mean} {variance}");
        // Every tenth of the interval has its share of numbers, within five standard deviations.
        for i in 0..10 {
            let share = x.iter().filter(|&&x| ((x + 1.0) / 0.4) as usize == i).count();
            assert!(share.abs_diff(COUNT / 10) < 500, "{i}: {share}");
        }
        // Neighbors are not correlated.
        let product = x.windows(2).map(|w| (w[0] - mean) * (w[1] - mean)).sum::<f64>() / COUNT as f64;
        assert!((product / variance).abs() < 0.016, "{product}");
    }

    #[test]
    fn normal() {
        let parameters = [("mean", Tensor::scalar(2f32)), ("stddev", Tensor::scalar(3f32))];
        let x = draw(OpKind::RandomNormal, &parameters, 7);
        let (mean, variance) = moments(&x);
        assert!((mean - 2.0).abs() < 0.05 && (variance - 9.0).abs() < 0.2, "{mean} {variance}");
        let within = x.iter().filter(|&&x| (x - 2.0).abs() < 3.0).count() as f64 / COUNT as f64;
        assert!((within - 0.6827).abs() < 0.01, "{within}");
    }

    #[test]
    fn bernoulli() {
        let (mean, _) = moments(&draw(OpKind::RandomBernoulli, &[("prob", Tensor::scalar(0.3f32))], 7));
        assert!((mean - 0.3).abs() < 0.01);
    }

    #[test]
    fn categorical() {
        let probs = || Tensor::from_vec(&[2, 3], vec![0.2f32, 0.0, 0.6, 1.0, 1.0, 2.0]).unwrap();
        let logits: Vec<f32> = probs().to_f64().iter().map(|&x| x.ln() as f32).collect();
        for (mode, x) in [("probs", probs()), ("logits", Tensor::from_vec(&[2, 3], logits).unwrap())] {
            let inputs = [
                ("x", x),
                ("mode", Tensor::string(mode)),
                ("size", Tensor::scalar(COUNT as i32)),
                ("seed", Tensor::scalar(1i32)),
            ];
            let inputs: Vec<_> = inputs.iter().map(|(n, t)| (*n, std::slice::from_ref(t))).collect();
            let out = run_op(OpKind::RandomCategorical, Opset::Ios15, &inputs, |_| true).unwrap().remove(0);
            assert_eq!(out.shape(), [2, COUNT]);
            let out = out.to_f64();
            for (row, expected) in out.chunks(COUNT).zip([[0.25, 0.0, 0.75], [0.25, 0.25, 0.5]]) {
                for (class, e) in expected.iter().enumerate() {
                    let share = row.iter().filter(|&&x| x == class as f64).count() as f64 / COUNT as f64;
                    assert!((share - e).abs() < 0.01, "{mode}: {class}: {share}");
                }
            }
        }
    }

    #[test]
    fn seeds() {
        let [a, b, c] = [3, 3, 4].map(|seed| draw(OpKind::RandomUniform, &[], seed));
        assert_eq!(a, b);
        assert_ne!(a, c);
        let [a, b] = [-1, -1].map(|seed| draw(OpKind::RandomUniform, &[], seed));
        assert_ne!(a, b);
    }
}
