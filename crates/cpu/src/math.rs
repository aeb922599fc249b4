//! Element-wise math on slices of floats, for all kernels.
//!
//! Each function computes `out[i]` from `x[i]`; the slices have the same length. The functions that models spend their
//! time in are written without branches, so that the compiler can vectorize them for each instruction set; the others
//! call the standard library. Results are bit-identical on all instruction sets, because the compiler neither reorders
//! nor contracts floating-point arithmetic.
//!
//! The compiler vectorizes a function passed to these loops only if it can inline it: pass a small closure, or a
//! function that is `#[inline(always)]`.

use crate::simd::{Isa, Op, Simd};

/// eˣ, to 1 unit in the last place, except for denormal results.
pub fn exp(x: &[f32], out: &mut [f32]) {
    each(x, out, exp1);
}

/// tanh x.
pub fn tanh(x: &[f32], out: &mut [f32]) {
    each(x, out, tanh1);
}

/// 1 / (1 + e⁻ˣ).
pub fn sigmoid(x: &[f32], out: &mut [f32]) {
    each(x, out, sigmoid1);
}

/// x · sigmoid(x).
pub fn silu(x: &[f32], out: &mut [f32]) {
    each(x, out, silu1);
}

/// The error function.
pub fn erf(x: &[f32], out: &mut [f32]) {
    each(x, out, erf1);
}

/// x/2 · (1 + erf(x/√2)).
pub fn gelu(x: &[f32], out: &mut [f32]) {
    each(x, out, gelu1);
}

/// x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))).
pub fn gelu_tanh(x: &[f32], out: &mut [f32]) {
    each(x, out, gelu_tanh1);
}

/// x · sigmoid(1.702 x).
pub fn gelu_sigmoid(x: &[f32], out: &mut [f32]) {
    each(x, out, gelu_sigmoid1);
}

/// min(max(x, low), high), as NumPy has it: NaN stays NaN, and a bound that is NaN makes everything NaN.
#[inline(always)]
pub fn bound(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low || x.is_nan() { x } else { low };
    if x < high || x.is_nan() { x } else { high }
}

/// Calls a function of one float for each element.
pub fn each(x: &[f32], out: &mut [f32], f: impl Fn(f32) -> f32) {
    Isa::detect().run(Each(x, out, f));
}

/// Replaces each element by a function of it.
pub fn update(x: &mut [f32], f: impl Fn(f32) -> f32) {
    Isa::detect().run(Update(x, f));
}

/// Calls a function of two floats for each pair of elements.
pub fn each_pair(x: &[f32], y: &[f32], out: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    Isa::detect().run(EachPair(x, y, out, f));
}

/// Replaces each element by it times a factor plus a summand.
pub fn scale_and_shift(x: &mut [f32], factors: &[f32], summands: &[f32]) {
    Isa::detect().run(ScaleAndShift(x, factors, summands));
}

/// The sum, added in blocks, so that the error does not grow with the length as that of a running sum does.
pub fn sum(x: &[f32]) -> f32 {
    sum_of(x, |x| x)
}

/// The sum of a function of each element, in blocks.
pub fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    Isa::detect().run(SumOf(x, f))
}

/// The largest element; NaN if any element is NaN, -∞ if there are no elements.
pub fn max(x: &[f32]) -> f32 {
    fold(x, f32::NEG_INFINITY, |a, b| if a > b || a.is_nan() { a } else { b })
}

/// The smallest element; NaN if any element is NaN, ∞ if there are no elements.
pub fn min(x: &[f32]) -> f32 {
    fold(x, f32::INFINITY, |a, b| if a < b || a.is_nan() { a } else { b })
}

/// Combines the elements in any order.
fn fold(x: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    Isa::detect().run(Fold(x, start, f))
}

struct Each<'a, F>(&'a [f32], &'a mut [f32], F);
struct Update<'a, F>(&'a mut [f32], F);
struct EachPair<'a, F>(&'a [f32], &'a [f32], &'a mut [f32], F);
struct ScaleAndShift<'a>(&'a mut [f32], &'a [f32], &'a [f32]);
struct SumOf<'a, F>(&'a [f32], F);
struct Fold<'a, F>(&'a [f32], f32, F);

impl<F: Fn(f32) -> f32> Op for Each<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (o, &x) in self.1.iter_mut().zip(self.0) {
            *o = self.2(x);
        }
    }
}

impl<F: Fn(f32) -> f32> Op for Update<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for x in self.0 {
            *x = self.1(*x);
        }
    }
}

impl<F: Fn(f32, f32) -> f32> Op for EachPair<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for ((o, &x), &y) in self.2.iter_mut().zip(self.0).zip(self.1) {
            *o = self.3(x, y);
        }
    }
}

impl Op for ScaleAndShift<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for ((x, factor), summand) in self.0.iter_mut().zip(self.1).zip(self.2) {
            *x = *x * factor + summand;
        }
    }
}

/// Lanes of sums and folds. The number is fixed, so that results are the same on every machine.
const LANES: usize = 16;

impl<F: Fn(f32) -> f32> Op for SumOf<'_, F> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f32 {
        const BLOCK: usize = 1024;
        let SumOf(x, f) = self;
        let mut total = 0.0f64;
        for block in x.chunks(BLOCK) {
            let mut lanes = [0.0f32; LANES];
            let chunks = block.chunks_exact(LANES);
            for &x in chunks.remainder() {
                total += f64::from(f(x));
            }
            for chunk in chunks {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane += f(x);
                }
            }
            total += lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
        }
        total as f32
    }
}

impl<F: Fn(f32, f32) -> f32> Op for Fold<'_, F> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f32 {
        let Fold(x, start, f) = self;
        let mut lanes = [start; LANES];
        let chunks = x.chunks_exact(LANES);
        let rest = chunks.remainder().iter().fold(start, |a, &b| f(a, b));
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane = f(*lane, x);
            }
        }
        lanes.iter().fold(rest, |a, &b| f(a, b))
    }
}

/// eˣ of one element.
#[inline(always)]
pub fn exp1(x: f32) -> f32 {
    /// Adding this to a small number rounds it to an integer, which is then in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    // ln 2, split so that a small integer times the first part is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// (eʳ - 1 - r) / r² up to |r| = ½ ln 2, fitted.
    const NEAR_0: [f32; 6] =
        [0.5, 0.166_666_67, 0.041_666_465, 0.008_333_311, 0.001_393_364_8, 0.000_198_909_9];
    // Beyond these the result is 0 or infinite. `clamp` keeps NaN.
    let x = x.clamp(-105.0, 89.0);
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.0 + (r + r * r * polynomial(r, NEAR_0));
    // Multiplies by 2ⁿ in two steps: the result may be denormal or infinite although each factor is neither.
    let n = shifted.to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
    let half = n >> 1;
    p * power_of_2(half) * power_of_2(n.wrapping_sub(half))
}

#[inline(always)]
fn power_of_2(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// 1 / (1 + e⁻ˣ) of one element.
#[inline(always)]
pub fn sigmoid1(x: f32) -> f32 {
    1.0 / (1.0 + exp1(-x))
}

/// x · sigmoid(x) of one element.
#[inline(always)]
pub fn silu1(x: f32) -> f32 {
    x * sigmoid1(x)
}

/// x/2 · (1 + erf(x/√2)) of one element.
#[inline(always)]
pub fn gelu1(x: f32) -> f32 {
    0.5 * x * (1.0 + erf1(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// [`gelu_tanh`] of one element.
#[inline(always)]
pub fn gelu_tanh1(x: f32) -> f32 {
    const SQRT_2_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + tanh1(SQRT_2_PI * (x + 0.044_715 * x * x * x)))
}

/// x · sigmoid(1.702 x) of one element.
#[inline(always)]
pub fn gelu_sigmoid1(x: f32) -> f32 {
    x * sigmoid1(1.702 * x)
}

/// tanh of one element.
#[inline(always)]
pub fn tanh1(x: f32) -> f32 {
    /// (tanh(√t)/√t - 1) / t up to t = 0.39, fitted.
    const NEAR_0: [f32; 6] =
        [-0.333_333_33, 0.133_333_04, -0.053_959_26, 0.021_768_92, -0.008_343_945, 0.002_292_745];
    let t = x * x;
    let small = x * (1.0 + t * polynomial(t, NEAR_0));
    let big = 1.0 - 2.0 / (exp1(2.0 * x.abs()) + 1.0);
    if x.abs() < 0.625 { small } else { big.copysign(x) }
}

/// The error function of one element.
#[inline(always)]
pub fn erf1(x: f32) -> f32 {
    /// erf(√t)/√t up to t = 1, fitted.
    const NEAR_0: [f32; 8] = [
        std::f32::consts::FRAC_2_SQRT_PI,
        -0.376_126_4,
        0.112_837_83,
        -0.026_865_43,
        0.005_221_032,
        -0.000_848_408,
        0.000_112_659_6,
        -9.667_045e-6,
    ];
    /// -ln(1 - erf(u + 2.5)) between 1 and 4, fitted.
    const FROM_1_TO_4: [f32; 10] = [
        7.806_815,
        5.352_680_7,
        0.943_893_6,
        0.010_858_113,
        -0.002_165_17,
        0.000_420_791_65,
        -7.738_76e-5,
        1.292_57e-5,
        -1.615_581e-6,
        7.582_682e-8,
    ];
    let small = x * polynomial(x * x, NEAR_0);
    // Beyond 4, erf rounds to 1.
    let big = 1.0 - exp1(-polynomial(x.abs().clamp(1.0, 4.0) - 2.5, FROM_1_TO_4));
    if x.abs() < 1.0 || x.is_nan() { small } else { big.copysign(x) }
}

/// c₀ + c₁ t + c₂ t² + …
#[inline(always)]
fn polynomial<const N: usize>(t: f32, c: [f32; N]) -> f32 {
    c.iter().rev().fold(0.0, |p, &c| p * t + c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of `f` against `reference` over many points: relative, but absolute for results under `floor`.
    fn worst(f: impl Fn(f32) -> f32, reference: impl Fn(f64) -> f64, from: f32, to: f32, floor: f64) -> f64 {
        (0..=20_000)
            .map(|i| from + (to - from) * i as f32 / 20_000.0)
            .map(|x| {
                let r = reference(f64::from(x));
                (f64::from(f(x)) - r).abs() / r.abs().max(floor)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn close_to_double_precision() {
        assert!(worst(exp1, f64::exp, -87.0, 88.7, 0.0) < 1.5e-7);
        assert!(worst(tanh1, f64::tanh, -10.0, 10.0, 0.0) < 3e-7);
        assert!(worst(sigmoid1, |x| 1.0 / (1.0 + (-x).exp()), -80.0, 80.0, 0.0) < 3e-7);
    }

    #[test]
    fn erf_at_known_points() {
        // From Python's math.erf.
        for (x, y) in [
            (1e-3, 0.001_128_378_790_969_236_5),
            (0.1, 0.112_462_916_018_284_9),
            (0.5, 0.520_499_877_813_046_5),
            (0.999, 0.842_285_252_331_847_8),
            (1.0, 0.842_700_792_949_714_8),
            (1.5, 0.966_105_146_475_310_8),
            (2.0, 0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_5),
            (3.9, 0.999_999_965_207_751_4),
            (5.0, 0.999_999_999_998_462_5),
        ] {
            assert!((f64::from(erf1(x as f32)) - y).abs() < 1.3e-7, "erf({x}) = {}", erf1(x as f32));
            assert_eq!(erf1(-x as f32), -erf1(x as f32));
        }
    }

    #[test]
    fn special_values() {
        assert_eq!(exp1(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp1(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp1(89.0), f32::INFINITY);
        assert_eq!(exp1(0.0), 1.0);
        assert!(exp1(-100.0) > 0.0, "denormal results are kept");
        for f in [exp1, tanh1, sigmoid1, erf1] {
            assert!(f(f32::NAN).is_nan());
        }
        for f in [tanh1, erf1] {
            assert_eq!(f(f32::INFINITY), 1.0);
            assert_eq!(f(f32::NEG_INFINITY), -1.0);
            assert!(f(-0.0) == 0.0 && f(-0.0).is_sign_negative());
        }
        assert_eq!(sigmoid1(f32::NEG_INFINITY), 0.0);
        assert_eq!(sigmoid1(f32::INFINITY), 1.0);
    }

    #[test]
    fn folds() {
        let x: Vec<f32> = (0..100).map(|i| ((i * 37) % 100) as f32).collect();
        assert_eq!((max(&x), min(&x), sum(&x)), (99.0, 0.0, 4950.0));
        assert!(max(&[1.0, f32::NAN, 2.0]).is_nan() && min(&[f32::NAN, 1.0]).is_nan());
        let mut with_nan = x;
        with_nan[33] = f32::NAN;
        assert!(max(&with_nan).is_nan());
        assert_eq!(max(&[]), f32::NEG_INFINITY);
        let many = vec![0.1f32; 1 << 20];
        assert!((sum(&many) - 104_857.6).abs() < 0.1);
    }
}
