//! Normalization.

mod batch_norm;
mod instance_norm;
mod l2_norm;
mod layer_norm;
mod local_response_norm;

use std::borrow::Cow;

use milwright_mil::ops::Operand;

use crate::convert::to_f32;
use crate::{View, math};

/// The slots of the optional parameters `gamma` and `beta`.
struct Affine {
    gamma: Option<usize>,
    beta: Option<usize>,
}

impl Affine {
    fn new(gamma: Option<Operand<'_>>, beta: Option<Operand<'_>>) -> Affine {
        Affine { gamma: gamma.map(|t| t.slot), beta: beta.map(|t| t.slot) }
    }

    /// Reads both, `len` elements each: ones for a missing gamma, zeros for a missing beta.
    fn read<'a>(&self, inputs: &[View<'a>], len: usize) -> (Cow<'a, [f32]>, Cow<'a, [f32]>) {
        let read = |slot: Option<usize>, default: f32| match slot {
            Some(slot) => to_f32(&inputs[slot]),
            None => Cow::Owned(vec![default; len]),
        };
        (read(self.gamma, 1.0), read(self.beta, 0.0))
    }
}

/// Shifts and scales a row to mean 0 and variance 1. Takes two passes, because a sum of squares would cancel.
fn standardize(row: &mut [f32], epsilon: f32) {
    let n = row.len() as f32;
    let mean = math::sum(row) / n;
    math::update(row, |x| x - mean);
    let scale = 1.0 / (math::sum_of(row, |x| x * x) / n + epsilon).sqrt();
    math::update(row, |x| x * scale);
}

#[cfg(test)]
mod tests {
    use half::f16;
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    fn run(kind: OpKind, inputs: &[(&str, Tensor)], known: impl Fn(&str) -> bool) -> Tensor {
        let inputs: Vec<_> = inputs.iter().map(|(n, t)| (*n, std::slice::from_ref(t))).collect();
        run_op(kind, Opset::Ios17, &inputs, |n| n != "x" && known(n)).unwrap().remove(0)
    }

    fn t(shape: &[usize], x: &[f32]) -> Tensor {
        Tensor::from_vec(shape, x.to_vec()).unwrap()
    }

    fn check(out: &Tensor, expected: &[f64], tolerance: f64) {
        let out = out.to_f64();
        assert_eq!(out.len(), expected.len());
        for (a, e) in out.iter().zip(expected) {
            assert!((a - e).abs() <= tolerance, "{a} for {e}");
        }
    }

    /// [1, 2, 2, 2], with a large offset in the second channel.
    fn x() -> Tensor {
        t(&[1, 2, 2, 2], &[1.0, 2.0, 4.0, 8.0, 1001.0, 1002.0, 1004.0, 1008.0])
    }

    #[test]
    fn batch_norm() {
        // torch.nn.functional.batch_norm(x, mean, variance, gamma, beta, eps=0.001), double precision.
        let inputs = [
            ("x", x()),
            ("mean", t(&[2], &[2.0, 1000.0])),
            ("variance", t(&[2], &[4.0, 0.25])),
            ("gamma", t(&[2], &[1.0, 0.5])),
            ("beta", t(&[2], &[0.0, -1.0])),
            ("epsilon", Tensor::scalar(0.001f32)),
        ];
        let expected = [
            -0.499_937_512,
            0.0,
            0.999_875_023,
            2.999_625_070,
            -0.001_994_020,
            0.996_011_960,
            2.992_023_920,
            6.984_047_841,
        ];
        check(&run(OpKind::BatchNorm, &inputs, |_| true), &expected, 1e-6);
        check(&run(OpKind::BatchNorm, &inputs, |n| n == "epsilon"), &expected, 1e-6);
    }

    #[test]
    fn instance_norm() {
        // torch.nn.functional.instance_norm(x, weight=gamma, bias=beta, eps=1e-5), double precision.
        let inputs = [("x", x()), ("gamma", t(&[2], &[1.0, 2.0])), ("beta", t(&[2], &[0.0, 1.0]))];
        let one = [-1.025_754_575_5, -0.652_752_911_7, 0.093_250_416, 1.585_257_071_2];
        let expected: Vec<f64> = one.iter().copied().chain(one.iter().map(|x| 2.0 * x + 1.0)).collect();
        check(&run(OpKind::InstanceNorm, &inputs, |_| true), &expected, 1e-6);
    }

    #[test]
    fn layer_norm() {
        // torch.nn.functional.layer_norm, double precision.
        let gamma = t(&[2], &[1.0, 2.0]);
        let axes = |v: &[i32]| Tensor::from_vec(&[v.len()], v.to_vec()).unwrap();
        let inputs =
            [("x", t(&[2, 2], &[1.0, 2.0, 4.0, 8.0])), ("axes", axes(&[-1])), ("gamma", gamma.clone())];
        let expected = [-0.999_980_000_6, 1.999_960_001_2, -0.999_998_75, 1.999_997_5];
        check(&run(OpKind::LayerNorm, &inputs, |_| true), &expected, 1e-6);
        // Along the first dimension: the columns.
        let inputs = [("x", t(&[2, 2], &[1.0, 4.0, 2.0, 8.0])), ("axes", axes(&[0])), ("gamma", gamma)];
        let expected = [-0.999_980_000_6, -0.999_998_75, 1.999_960_001_2, 1.999_997_5];
        check(&run(OpKind::LayerNorm, &inputs, |_| true), &expected, 1e-6);
        let half = |x: f32| f16::from_f32(x);
        let x = Tensor::from_vec(&[2], vec![half(1.0), half(2.0)]).unwrap();
        check(&run(OpKind::LayerNorm, &[("x", x)], |_| true), &[-1.0, 1.0], 0.0);
    }

    #[test]
    fn l2_norm() {
        let x = t(&[2, 1, 2, 1], &[3.0, 4.0, 6.0, 8.0]);
        check(&run(OpKind::L2Norm, &[("x", x)], |_| true), &[0.6, 0.8, 0.6, 0.8], 1e-6);
    }

    #[test]
    fn local_response_norm() {
        // torch.nn.functional.local_response_norm(x, size), defaults.
        let x = || t(&[1, 3, 2], &[1.0, -7.0, 5.0, -6.0, -3.0, -5.0]);
        for (size, expected) in [
            (2, [0.999_962_57, -6.987_165_45, 4.995_131_02, -5.980_945_59, -2.996_180_77, -4.988_593_10]),
            (3, [0.999_350_49, -6.985_161_30, 4.995_629_31, -5.983_552_93, -2.997_452_74, -4.992_388_25]),
            (99, [0.999_973_42, -6.999_416_83, 4.999_866_96, -5.999_500_27, -2.999_920_37, -4.999_583_24]),
        ] {
            let out = run(OpKind::LocalResponseNorm, &[("x", x()), ("size", Tensor::scalar(size))], |_| true);
            check(&out, &expected, 2e-6);
        }
    }
}
