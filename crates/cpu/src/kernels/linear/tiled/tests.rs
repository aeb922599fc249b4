//! Ops whose products run on tiles, against plain loops in `f64`. Machines without tiles run the model.

use half::f16;
use milwright_mil::{OpKind, Opset, Tensor};

use crate::eager::run_op;

/// Numbers from -1 to 1, exact in fp16 if `half`.
fn numbers(len: usize, seed: u32, half: bool) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let x = (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0;
        if half { f16::from_f32(x).to_f32() } else { x }
    };
    (0..len).map(|_| next()).collect()
}

fn tensor(shape: &[usize], values: &[f32], half: bool) -> Tensor {
    if half {
        Tensor::from_vec(shape, values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>()).unwrap()
    } else {
        Tensor::from_vec(shape, values.to_vec()).unwrap()
    }
}

/// Compares a result with a sum and the sum of magnitudes of its products.
fn check(got: f64, (sum, magnitude): (f64, f64), k: usize, half: bool, what: &str) {
    let left_out = if half { 2f64.powi(-16) } else { 0.0 };
    let rounding = if half { sum.abs() * 2f64.powi(-11) + 2f64.powi(-25) } else { 0.0 };
    let bound = ((k + 4) as f64 * 2f64.powi(-24) + left_out) * magnitude + rounding;
    assert!((got - sum).abs() <= bound, "{what}: {got} for {sum}");
}

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    channels: usize,
    outputs: usize,
    groups: usize,
    input: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pad: [usize; 4],
}

const CASE: Case = Case {
    batch: 1,
    channels: 64,
    outputs: 64,
    groups: 1,
    input: [11, 13],
    kernel: [3, 3],
    strides: [1, 1],
    dilations: [1, 1],
    pad: [1, 1, 1, 1],
};

fn convolutions() -> Vec<Case> {
    vec![
        CASE,
        Case { batch: 2, channels: 56, outputs: 70, input: [9, 40], ..CASE },
        Case { channels: 100, strides: [2, 2], input: [15, 17], ..CASE },
        Case { channels: 128, groups: 2, outputs: 128, pad: [0, 2, 1, 0], ..CASE },
        Case { dilations: [2, 1], pad: [0; 4], ..CASE },
        Case { channels: 20, outputs: 96, kernel: [5, 3], pad: [2, 2, 1, 1], ..CASE },
        Case { kernel: [1, 1], pad: [0; 4], channels: 70, outputs: 130, batch: 2, ..CASE },
        Case { kernel: [1, 1], pad: [0; 4], strides: [2, 2], channels: 96, ..CASE },
        Case { kernel: [1, 7], pad: [0, 0, 3, 3], input: [1, 60], ..CASE },
        Case { input: [5, 3], kernel: [3, 1], pad: [1, 1, 0, 0], channels: 160, outputs: 160, ..CASE },
    ]
}

impl Case {
    fn size(&self, d: usize) -> usize {
        let Case { input, kernel, strides, dilations, pad, .. } = self;
        (input[d] + pad[2 * d] + pad[2 * d + 1] - (kernel[d] - 1) * dilations[d] - 1) / strides[d] + 1
    }

    fn per_group(&self) -> usize {
        self.channels / self.groups
    }

    fn run(&self, x: &[f32], weight: &[f32], bias: &[f32], half: bool) -> Vec<f64> {
        let ints = |x: &[usize]| {
            vec![Tensor::from_vec(&[x.len()], x.iter().map(|&x| x as i32).collect::<Vec<_>>()).unwrap()]
        };
        let x = [tensor(&[self.batch, self.channels, self.input[0], self.input[1]], x, half)];
        let shape = [self.outputs, self.per_group(), self.kernel[0], self.kernel[1]];
        let weight = [tensor(&shape, weight, half)];
        let bias = [tensor(&[self.outputs], bias, half)];
        let (strides, pad, dilations) = (ints(&self.strides), ints(&self.pad), ints(&self.dilations));
        let (pad_type, groups) = ([Tensor::string("custom")], [Tensor::scalar(self.groups as i32)]);
        let inputs: [(&str, &[Tensor]); 8] = [
            ("x", &x),
            ("weight", &weight),
            ("bias", &bias),
            ("strides", &strides),
            ("pad_type", &pad_type),
            ("pad", &pad),
            ("dilations", &dilations),
            ("groups", &groups),
        ];
        run_op(OpKind::Conv, Opset::Ios15, &inputs, |n| n != "x").unwrap().remove(0).to_f64()
    }

    /// The products of an element of the result, and its bias.
    fn products<'a>(
        &'a self,
        i: usize,
        x: &'a [f32],
        weight: &'a [f32],
    ) -> impl Iterator<Item = (f64, f64)> + 'a {
        let (height, width) = (self.size(0), self.size(1));
        let (n, o, y, z) = (
            i / (self.outputs * height * width),
            i / (height * width) % self.outputs,
            i / width % height,
            i % width,
        );
        let group = o / (self.outputs / self.groups);
        let [kh, kw] = self.kernel;
        (0..self.per_group() * kh * kw).filter_map(move |k| {
            let (c, i, j) = (k / (kh * kw), k / kw % kh, k % kw);
            let y = (y * self.strides[0] + i * self.dilations[0]).checked_sub(self.pad[0])?;
            let z = (z * self.strides[1] + j * self.dilations[1]).checked_sub(self.pad[2])?;
            let inside = y < self.input[0] && z < self.input[1];
            let channel = n * self.channels + group * self.per_group() + c;
            let at = (channel * self.input[0] + y) * self.input[1] + z;
            inside.then(|| (f64::from(x[at]), f64::from(weight[o * self.per_group() * kh * kw + k])))
        })
    }
}

#[test]
fn convolutions_of_many_shapes() {
    for (case, half) in convolutions().into_iter().flat_map(|c| [(c, true), (c, false)]) {
        let k = case.per_group() * case.kernel[0] * case.kernel[1];
        let mut x = numbers(case.batch * case.channels * case.input[0] * case.input[1], 1, half);
        let weight = numbers(case.outputs * k, 2, half);
        let bias = numbers(case.outputs, 3, half);
        let positions = case.size(0) * case.size(1);
        let sums = |x: &[f32], i: usize| {
            let b = f64::from(bias[i / positions % case.outputs]);
            let all = case.products(i, x, &weight).map(|(x, w)| x * w);
            all.fold((b, b.abs()), |(sum, magnitude), p| (sum + p, magnitude + p.abs()))
        };
        for (i, got) in case.run(&x, &weight, &bias, half).into_iter().enumerate() {
            check(got, sums(&x, i), k, half, &format!("{case:?} fp16 {half} at {i}"));
        }
        // Infinity and NaN spread as far as the window, and no further.
        let last = x.len() - 1;
        (x[7], x[last]) = (f32::INFINITY, f32::NAN);
        for (i, got) in case.run(&x, &weight, &bias, half).into_iter().enumerate() {
            let (sum, magnitude) = sums(&x, i);
            let what = format!("{case:?} fp16 {half} at {i}: {got} for {sum}");
            if sum.is_finite() {
                check(got, (sum, magnitude), k, half, &what);
            } else {
                assert!(got == sum || (got.is_nan() && sum.is_nan()), "{what}");
            }
        }
    }
}

#[test]
fn linear_layers_of_many_shapes() {
    for ([m, k, n], half) in [[40, 64, 96], [33, 100, 70], [130, 48, 600], [17, 384, 33]]
        .into_iter()
        .flat_map(|s| [(s, true), (s, false)])
    {
        let mut x = numbers(m * k, 4, half);
        let (weight, bias) = (numbers(n * k, 5, half), numbers(n, 6, half));
        for special in [None, Some(f32::INFINITY), Some(f32::NAN)] {
            if let Some(special) = special {
                x[k + 1] = special;
            }
            let (own, weights, biases) =
                ([tensor(&[m, k], &x, half)], [tensor(&[n, k], &weight, half)], [tensor(&[n], &bias, half)]);
            let inputs: [(&str, &[Tensor]); 3] = [("x", &own), ("weight", &weights), ("bias", &biases)];
            let out = run_op(OpKind::Linear, Opset::Ios15, &inputs, |n| n != "x").unwrap().remove(0).to_f64();
            for (i, got) in out.into_iter().enumerate() {
                let (r, c) = (i / n, i % n);
                let b = f64::from(bias[c]);
                let all = (0..k).map(|i| f64::from(x[r * k + i]) * f64::from(weight[c * k + i]));
                let (sum, magnitude) = all.fold((b, b.abs()), |(s, m), p| (s + p, m + p.abs()));
                let what = format!("{m} {k} {n} fp16 {half} at {r}, {c}: {got} for {sum}");
                if sum.is_finite() {
                    check(got, (sum, magnitude), k, half, &what);
                } else {
                    assert!(got == sum || (got.is_nan() && sum.is_nan()), "{what}");
                }
            }
        }
    }
}
