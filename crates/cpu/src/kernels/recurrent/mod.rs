//! Recurrent networks.

mod gru;
mod lstm;
mod rnn;

use std::borrow::Cow;

use milwright_mil::ops::Operand;

use crate::convert::{to_f32, write_f32};
use crate::kernel::concrete;
use crate::product::{Matrix, product};
use crate::{KernelError, View, ViewMut, math};

/// The sizes and directions that every recurrent op has.
struct Layer {
    /// The slot of the input.
    x: usize,
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    reverse: bool,
    bidirectional: bool,
    /// Whether the op returns the hidden states after every step, not just the last.
    sequence: bool,
}

impl Layer {
    fn new(
        x: Operand<'_>,
        weight_hh: Operand<'_>,
        direction: &str,
        sequence: bool,
    ) -> Result<Layer, KernelError> {
        let (shape, weight) = (concrete(&x)?, concrete(&weight_hh)?);
        let (&[steps, batch, input], &[_, hidden]) = (&shape[..], &weight[..]) else {
            return Err(KernelError::invalid("`x` must have rank 3, `weight_hh` rank 2"));
        };
        if steps == 0 && !sequence {
            return Err(KernelError::invalid("input `x` has no steps, so there is no last one"));
        }
        let (reverse, bidirectional) = (direction == "reverse", direction == "bidirectional");
        Ok(Layer { x: x.slot, steps, batch, input, hidden, reverse, bidirectional, sequence })
    }

    /// Returns W_ih x + bias for all gates of all steps at once: [steps, batch, gates].
    fn input_gates(&self, x: &View<'_>, weights: &WeightViews<'_>, bias: Option<&[f32]>) -> Vec<f32> {
        let (rows, width) = (self.steps * self.batch, weights.width(self.hidden));
        let mut gates = vec![0.0; rows * width];
        let (x, w) = (to_f32(x), &weights.ih);
        let (x, w) = (Matrix::rows(&x, self.input), Matrix::transposed(w, self.input));
        product([rows, self.input, width], x, w, &mut gates, width, false);
        if let Some(bias) = bias {
            add_rows(bias, &mut gates);
        }
        gates
    }

    /// Calls `f` for each step, in the order of the direction, with the number of the iteration, the position of the
    /// step in the input, and the step's gates.
    fn walk(&self, mut gates: Vec<f32>, reverse: bool, mut f: impl FnMut(usize, usize, &mut [f32])) {
        let width = gates.len() / self.steps.max(1);
        for turn in 0..self.steps {
            let position = if reverse { self.steps - 1 - turn } else { turn };
            f(turn, position, &mut gates[position * width..][..width]);
        }
    }

    /// Returns the half of [batch or more, directions · hidden] that belongs to `direction`.
    fn half(&self, both: &[f32], direction: usize) -> Vec<f32> {
        let width = self.hidden * if self.bidirectional { 2 } else { 1 };
        let row = |b: usize| &both[b * width + direction * self.hidden..][..self.hidden];
        (0..self.batch).flat_map(row).copied().collect()
    }

    /// Writes the last states of the directions side by side.
    fn write_last(&self, last: &[&[f32]], out: &mut ViewMut<'_>) {
        let row = |b: usize| last.iter().flat_map(move |l| &l[b * self.hidden..][..self.hidden]);
        let all: Vec<f32> = (0..self.batch).flat_map(row).copied().collect();
        write_f32(out, 0, &all);
    }
}

/// The first output under construction: the hidden states after every step, or after the last.
struct States<'l> {
    layer: &'l Layer,
    all: Vec<f32>,
    width: usize,
}

impl<'l> States<'l> {
    fn new(layer: &'l Layer) -> States<'l> {
        let width = layer.hidden * if layer.bidirectional { 2 } else { 1 };
        let steps = if layer.sequence { layer.steps } else { 1 };
        States { layer, all: vec![0.0; steps * layer.batch * width], width }
    }

    /// Stores the state of a direction after a step at position `place`.
    fn put(&mut self, place: usize, direction: usize, h: &[f32]) {
        let place = if self.layer.sequence { place } else { 0 };
        let hidden = self.layer.hidden;
        let start = place * self.layer.batch * self.width;
        for b in 0..self.layer.batch {
            let to = start + b * self.width + direction * hidden;
            self.all[to..to + hidden].copy_from_slice(&h[b * hidden..][..hidden]);
        }
    }

    fn write(&self, out: &mut ViewMut<'_>) {
        write_f32(out, 0, &self.all);
    }
}

/// The slots of one direction's weights.
struct Weights {
    ih: usize,
    hh: usize,
    bias: Option<usize>,
}

/// One direction's weights.
struct WeightViews<'a> {
    ih: Cow<'a, [f32]>,
    hh: Cow<'a, [f32]>,
    bias: Option<Cow<'a, [f32]>>,
    hidden: usize,
}

impl Weights {
    fn new(ih: Operand<'_>, hh: Operand<'_>, bias: Option<Operand<'_>>) -> Weights {
        Weights { ih: ih.slot, hh: hh.slot, bias: bias.map(|b| b.slot) }
    }

    fn read<'a>(&self, inputs: &[View<'a>]) -> WeightViews<'a> {
        WeightViews {
            ih: to_f32(&inputs[self.ih]),
            hh: to_f32(&inputs[self.hh]),
            bias: self.bias.map(|b| to_f32(&inputs[b])),
            hidden: inputs[self.hh].shape()[1],
        }
    }
}

impl WeightViews<'_> {
    /// The number of elements in all gates.
    fn width(&self, hidden: usize) -> usize {
        self.hh.len().checked_div(hidden).unwrap_or(0)
    }

    /// Adds W_hh h to the gates of one step: [batch, gates].
    fn add_hidden(&self, h: &[f32], gates: &mut [f32]) {
        let (n, width) = (self.hidden, self.width(self.hidden));
        let batch = h.len().checked_div(n).unwrap_or(0);
        product([batch, n, width], Matrix::rows(h, n), Matrix::transposed(&self.hh, n), gates, width, true);
    }
}

/// Adds a vector to every row of a matrix.
fn add_rows(vector: &[f32], matrix: &mut [f32]) {
    for row in matrix.chunks_mut(vector.len().max(1)) {
        for (x, v) in row.iter_mut().zip(vector) {
            *x += v;
        }
    }
}

/// The function that turns a sum into a gate.
#[derive(Clone, Copy)]
enum Activation {
    Linear,
    Relu,
    Sigmoid,
    HardSigmoid,
    Tanh,
}

impl Activation {
    fn new(name: &str) -> Result<Activation, KernelError> {
        Ok(match name {
            "linear" => Activation::Linear,
            "relu" => Activation::Relu,
            "sigmoid" => Activation::Sigmoid,
            "hard_sigmoid" | "sigmoid_hard" => Activation::HardSigmoid,
            "tanh" | "scaled_tanh" => Activation::Tanh,
            other => return Err(KernelError::unsupported(format!("the activation \"{other}\""))),
        })
    }

    fn apply(self, x: &mut [f32]) {
        let f = match self {
            Activation::Linear => return,
            Activation::Relu => |x: f32| if x < 0.0 { 0.0 } else { x },
            Activation::Sigmoid => math::sigmoid1,
            Activation::HardSigmoid => |x: f32| (0.2 * x + 0.5).clamp(0.0, 1.0),
            Activation::Tanh => math::tanh1,
        };
        x.iter_mut().for_each(|x| *x = f(*x));
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    /// sin(k i + 1). The script that computed the expected values uses the same numbers, in double precision, with
    /// torch (and NumPy for functions that torch lacks).
    fn wave(shape: &[usize], k: f64) -> Tensor {
        let count: usize = shape.iter().product();
        Tensor::from_vec(shape, (0..count).map(|i| (i as f64 * k + 1.0).sin() as f32).collect()).unwrap()
    }

    /// The first `columns` columns of a matrix.
    fn columns(t: &Tensor, columns: usize) -> Tensor {
        let width = t.shape()[1];
        let x = t.to_vec::<f32>().unwrap();
        let x = x.chunks(width).flat_map(|r| &r[..columns]).copied().collect();
        Tensor::from_vec(&[t.shape()[0], columns], x).unwrap()
    }

    fn h0() -> Tensor {
        wave(&[2, 4], 0.4)
    }

    fn c0() -> Tensor {
        wave(&[2, 4], 0.6)
    }

    fn run(kind: OpKind, parameters: Vec<(&str, Tensor)>) -> Vec<Tensor> {
        let mut inputs = vec![("x", wave(&[3, 2, 2], 0.7))];
        inputs.extend(parameters);
        let inputs: Vec<_> = inputs.iter().map(|(n, t)| (*n, std::slice::from_ref(t))).collect();
        let dynamic = ["x", "initial_h", "initial_c"];
        run_op(kind, Opset::Ios18, &inputs, |n| !dynamic.contains(&n)).unwrap()
    }

    fn check(out: &Tensor, expected: &[f64]) {
        let out = out.to_f64();
        assert_eq!(out.len(), expected.len());
        for (a, e) in out.iter().zip(expected) {
            assert!((a - e).abs() < 2e-6 * e.abs().max(1.0), "{out:?} for {expected:?}");
        }
    }

    fn lstm() -> Vec<(&'static str, Tensor)> {
        vec![("weight_ih", wave(&[8, 2], 0.3)), ("weight_hh", wave(&[8, 2], 0.5)), ("bias", wave(&[8], 0.9))]
    }

    fn bidirectional() -> Vec<(&'static str, Tensor)> {
        let mut parameters = lstm();
        parameters.extend([
            ("initial_h", h0()),
            ("initial_c", c0()),
            ("weight_ih_back", wave(&[8, 2], 1.1)),
            ("weight_hh_back", wave(&[8, 2], 1.3)),
            ("bias_back", wave(&[8], 1.7)),
            ("direction", Tensor::string("bidirectional")),
        ]);
        parameters
    }

    fn sequence() -> (&'static str, Tensor) {
        ("output_sequence", Tensor::from_bools(&[], &[true]).unwrap())
    }

    #[test]
    fn lstm_bidirectional() {
        let mut parameters = bidirectional();
        parameters.push(sequence());
        let out = run(OpKind::Lstm, parameters);
        check(
            &out[0],
            &[
                0.016_339_8,
                0.066_861_5,
                0.107_640_7,
                0.102_756_0,
                -0.040_976_6,
                0.075_648_8,
                -0.166_712_5,
                0.027_735_7,
                0.185_774_1,
                0.367_571_3,
                -0.484_941_2,
                0.275_176_3,
                0.102_050_0,
                0.281_010_8,
                -0.197_978_3,
                0.126_504_7,
                -0.013_213_8,
                0.080_428_5,
                -0.164_989_8,
                0.234_860_8,
                -0.064_394_2,
                0.004_701_8,
                0.251_627_7,
                -0.272_735_5,
            ],
        );
        let h = [
            -0.013_213_8,
            0.080_428_5,
            0.107_640_7,
            0.102_756_0,
            -0.064_394_2,
            0.004_701_8,
            -0.166_712_5,
            0.027_735_7,
        ];
        check(&out[1], &h);
        check(
            &out[2],
            &[
                -0.107_565_1,
                0.573_256_7,
                0.199_667_9,
                0.260_806_4,
                -0.539_103_8,
                0.040_514_5,
                -0.238_333_5,
                0.076_556_1,
            ],
        );
        // Without `sequence`, the output has the last state of each direction.
        let out = run(OpKind::Lstm, bidirectional());
        assert_eq!(out[0].shape(), [1, 2, 4]);
        check(&out[0], &h);
    }

    #[test]
    fn lstm_reverse() {
        let mut parameters = lstm();
        let (h, c) = (columns(&h0(), 2), columns(&c0(), 2));
        let direction = ("direction", Tensor::string("reverse"));
        parameters.extend([("initial_h", h), ("initial_c", c), direction, sequence()]);
        check(
            &run(OpKind::Lstm, parameters)[0],
            &[
                0.035_282_6,
                0.114_099_4,
                -0.074_365_3,
                -0.012_808_7,
                0.232_484_8,
                0.382_489_5,
                0.009_168_4,
                0.194_304_1,
                -0.022_518_9,
                0.014_986_1,
                -0.062_085_7,
                0.096_227_4,
            ],
        );
    }

    #[test]
    fn lstm_peephole_and_clip() {
        let mut parameters = lstm();
        let (h, c) = (columns(&h0(), 2), columns(&c0(), 2));
        let (peephole, clip) = (wave(&[6], 0.8), Tensor::scalar(0.5f32));
        parameters.extend([("initial_h", h), ("initial_c", c), ("peephole", peephole), ("clip", clip)]);
        parameters.push(sequence());
        check(
            &run(OpKind::Lstm, parameters)[0],
            &[
                0.011_457_0,
                0.027_676_1,
                -0.048_760_6,
                0.046_633_4,
                0.144_684_9,
                0.251_383_6,
                0.075_761_3,
                0.213_737_2,
                -0.026_835_9,
                0.043_923_4,
                -0.092_486_7,
                -0.006_099_1,
            ],
        );
    }

    #[test]
    fn rnn() {
        let parameters = vec![
            ("initial_h", columns(&h0(), 2)),
            ("weight_ih", wave(&[2, 2], 0.3)),
            ("weight_hh", wave(&[2, 2], 0.5)),
            ("bias", wave(&[2], 0.9)),
            ("activation", Tensor::string("relu")),
            sequence(),
        ];
        check(
            &run(OpKind::Rnn, parameters)[0],
            &[
                4.196_125_7,
                4.080_736_4,
                2.024_465_0,
                2.214_023_5,
                6.986_135_3,
                5.667_399_6,
                3.649_823_5,
                2.875_294_8,
                13.454_902_1,
                11.806_732_5,
                8.252_109_4,
                7.602_163_3,
            ],
        );
    }

    #[test]
    fn gru() {
        let parameters = || {
            vec![
                ("initial_h", columns(&h0(), 2)),
                ("weight_ih", wave(&[6, 2], 0.3)),
                ("weight_hh", wave(&[6, 2], 0.5)),
                ("bias", wave(&[6], 0.9)),
                sequence(),
            ]
        };
        let before = [
            0.880_711_9,
            -0.764_755_2,
            0.697_859_6,
            -0.487_443_5,
            -0.035_118_1,
            -0.688_069_7,
            -0.108_697_1,
            -0.586_261_0,
            0.620_124_7,
            0.071_071_6,
            0.670_917_4,
            0.286_913_9,
        ];
        let out = run(OpKind::Gru, parameters());
        check(&out[0], &before);
        check(&out[1], &before[8..]);
        let mut parameters = parameters();
        parameters.push(("input_bias", wave(&[6], 0.2)));
        parameters.push(("reset_after", Tensor::from_bools(&[], &[true]).unwrap()));
        check(
            &run(OpKind::Gru, parameters)[0],
            &[
                0.969_256_2,
                -0.325_371_4,
                0.820_111_7,
                0.183_402_5,
                0.622_334_0,
                -0.238_186_3,
                0.523_486_4,
                0.035_005_3,
                0.880_221_9,
                0.215_353_0,
                0.876_582_1,
                0.316_061_5,
            ],
        );
    }
}
