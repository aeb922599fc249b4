//! Recurrent networks.
//!
//! The weights are packed when the plan is compiled. Each gate is padded to whole panels, so that a step works on whole
//! vectors. The products with the inputs of all steps are one matrix product; each step then adds the product with the
//! state before it, and computes the gates. The directions of a bidirectional layer run in parallel.

mod gru;
mod lstm;
mod rnn;

use milwright_mil::DType;
use milwright_mil::ops::Operand;

use crate::chain::Epilogue;
use crate::convert::{to_f32, write_f32};
use crate::kernel::concrete;
use crate::memory::AlignedBytes;
use crate::simd::gemm::{self, Bias, Elements, F16, F32, Gemm, Matrix, Output, SLACK};
use crate::simd::{Isa, gemv};
use crate::{KernelError, Packed, Run, View, ViewMut, math};

/// The sizes and directions that every recurrent op has.
struct Layer {
    isa: Isa,
    /// The slot of the input.
    x: usize,
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    /// `hidden`, rounded up to whole panels.
    padded: usize,
    gates: usize,
    reverse: bool,
    bidirectional: bool,
    /// Whether the op returns the hidden states after every step, not just the last.
    sequence: bool,
}

/// The weights of one direction.
struct Weights<'a> {
    ih: Operand<'a>,
    hh: Operand<'a>,
}

/// What one direction computes with. It lies in scratch memory.
struct Direction<'a> {
    /// The gates of all steps: [steps, batch, gates, padded].
    gates: &'a mut [f32],
    /// The states after every step, in the order of the output, or the last state: [steps or 1, batch, padded].
    sequence: &'a mut [f32],
    /// The state: [batch, padded].
    h: &'a mut [f32],
    /// More vectors of the state's size: [some, batch, padded].
    more: &'a mut [f32],
}

impl Layer {
    fn new(
        x: Operand<'_>,
        weight_hh: Operand<'_>,
        gates: usize,
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
        let isa = Isa::detect();
        let padded = hidden.next_multiple_of(gemm::panel_columns(isa));
        let x = x.slot;
        Ok(Layer { isa, x, steps, batch, input, hidden, padded, gates, reverse, bidirectional, sequence })
    }

    fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// The elements of all gates of one instance.
    fn width(&self) -> usize {
        self.gates * self.padded
    }

    /// Packs the weights of all directions: for each, first those of the input.
    fn pack(&self, weights: &[Weights<'_>]) -> Result<Packed, KernelError> {
        let mut data = Vec::new();
        for (operand, k) in weights.iter().flat_map(|w| [(w.ih, self.input), (w.hh, self.hidden)]) {
            let constant =
                operand.value().ok_or_else(|| KernelError::invalid("the weights must be known"))?;
            let weight = to_f32(&View::from(constant));
            let mut rows = vec![0.0; self.width() * k];
            for gate in 0..self.gates {
                let len = self.hidden * k;
                rows[gate * self.padded * k..][..len].copy_from_slice(&weight[gate * len..][..len]);
            }
            let matrix = Matrix::new(F32(&rows), k, self.width(), [1, k], &[]).columns();
            data.extend(gemm::pack(self.isa, &matrix, [1, self.width(), k], gemm::panel_columns(self.isa)));
        }
        let bytes = AlignedBytes::from(data.as_slice()).into();
        let slots = weights.iter().flat_map(|w| [w.ih.slot, w.hh.slot]).collect();
        Ok(Packed { params: vec![data.len() as u64], data: bytes, slots })
    }

    /// Floats that `pack` makes for one direction: those of the input and those of the state.
    fn packed(&self) -> [usize; 2] {
        [self.input, self.hidden].map(|k| self.width() * k + SLACK)
    }

    /// # Errors
    /// `pack` cannot have made `packed`.
    fn check(&self, packed: &Packed) -> Result<(), KernelError> {
        let floats = self.directions() * self.packed().iter().sum::<usize>();
        if packed.params != [floats as u64] || packed.data.len() != floats * 4 {
            return Err(KernelError::invalid("the packed weights of a recurrent layer have another size"));
        }
        Ok(())
    }

    /// Returns the packed weights of a direction: those of the input and those of the state.
    fn panels<'a>(&self, packed: &'a Packed, direction: usize) -> (&'a [f32], &'a [f32]) {
        let all: &[f32] = bytemuck::cast_slice(&packed.data);
        let [input, state] = self.packed();
        all[direction * (input + state)..][..input + state].split_at(input)
    }

    /// Pads a vector with an element for each of `gates` gates.
    fn pad(&self, vector: Option<&[f32]>, gates: usize) -> Vec<f32> {
        let mut padded = vec![0.0; gates * self.padded];
        if let Some(vector) = vector {
            for (to, from) in padded.chunks_mut(self.padded).zip(vector.chunks(self.hidden)) {
                to[..self.hidden].copy_from_slice(from);
            }
        }
        padded
    }

    /// The bytes of scratch memory that `run` needs.
    fn scratch(&self, more: usize) -> usize {
        4 * (self.directions() * self.parts(more).iter().sum::<usize>() + self.input_product().scratch())
    }

    /// The floats of the fields of a [`Direction`].
    fn parts(&self, more: usize) -> [usize; 4] {
        let state = self.batch * self.padded;
        let kept = if self.sequence { self.steps } else { 1 };
        [self.steps * self.batch * self.width(), kept * state, state, more * state]
    }

    fn direction<'a>(&self, floats: &'a mut [f32], more: usize) -> Direction<'a> {
        let [gates, sequence, h, _] = self.parts(more);
        let (gates, rest) = floats.split_at_mut(gates);
        let (sequence, rest) = rest.split_at_mut(sequence);
        let (h, more) = rest.split_at_mut(h);
        Direction { gates, sequence, h, more }
    }

    /// The products with the inputs of all steps.
    fn input_product(&self) -> Gemm {
        let size = [self.steps * self.batch, self.input, self.width()];
        Gemm::new(self.isa, size, 1, [false, true], false)
    }

    /// Runs all directions and writes the outputs. The slots `initial` have the state at the start, and the first of the
    /// `more` other vectors; there is an output for each of them. `biases` (padded) belong to the products with the
    /// input. `step` computes a step of a direction; its arguments are the direction, its weights of the state, the
    /// step's gates, the state, and the other vectors.
    fn run(
        &self,
        run: &mut Run<'_>,
        packed: &Packed,
        initial: &[usize],
        more: usize,
        biases: &[Vec<f32>],
        step: impl Fn(usize, &[f32], &mut [f32], &mut [f32], &mut [f32]) + Send + Sync,
    ) {
        let each: usize = self.parts(more).iter().sum();
        let scratch: &mut [f32] = bytemuck::cast_slice_mut(std::mem::take(&mut run.scratch));
        let (floats, scratch) = scratch.split_at_mut(each * self.directions());
        if each == 0 {
            return;
        }
        let (product, x) = (self.input_product(), &run.inputs[self.x]);
        let (rows, strides) = (self.steps * self.batch, [self.input, 1]);
        let starts: Vec<_> = initial.iter().map(|&slot| to_f32(&run.inputs[slot])).collect();
        for (d, floats) in floats.chunks_exact_mut(each).enumerate() {
            let to = self.direction(floats, more);
            let (a16, a32);
            let left: &dyn gemm::Panels = if x.dtype() == DType::Fp16 {
                a16 = Matrix::new(F16(x.slice()), rows, self.input, strides, &[]).rows();
                &a16
            } else {
                a32 = Matrix::new(F32(x.slice()), rows, self.input, strides, &[]).rows();
                &a32
            };
            let operands = [gemm::Operand::Panels(left), gemm::Operand::Packed(self.panels(packed, d).0)];
            let out = Output { data: Elements::F32(to.gates), start: 0 };
            product.run(run.pool, operands, Bias::Columns(&biases[d]), out, &Epilogue::default(), scratch);
            to.h.fill(0.0);
            to.more.fill(0.0);
            for (start, to) in starts.iter().zip([to.h, to.more]) {
                for (b, to) in to.chunks_exact_mut(self.padded).take(self.batch).enumerate() {
                    let from = (b * self.directions() + d) * self.hidden;
                    to[..self.hidden].copy_from_slice(&start[from..][..self.hidden]);
                }
            }
        }
        run.pool.for_each_chunk(floats, each, |d, floats| {
            let hh = self.panels(packed, d).1;
            let Direction { gates, sequence, h, more } = self.direction(floats, more);
            let iteration_len = self.batch * self.width();
            for iteration in 0..self.steps {
                let backward = self.reverse || d == 1;
                let position = if backward { self.steps - 1 - iteration } else { iteration };
                step(d, hh, &mut gates[position * iteration_len..][..iteration_len], h, more);
                // In a bidirectional layer, both halves of an output row are for the same position of the input.
                let place = if self.bidirectional { position } else { iteration };
                if self.sequence {
                    sequence[place * h.len()..][..h.len()].copy_from_slice(h);
                }
            }
            if !self.sequence {
                sequence.copy_from_slice(h);
            }
        });
        for (d, floats) in floats.chunks_exact_mut(each).enumerate() {
            let Direction { sequence, h, more, .. } = self.direction(floats, more);
            for (from, out) in [&*sequence, h, more].into_iter().zip(&mut run.outputs) {
                self.write(from, d, out);
            }
        }
    }

    /// Writes the part of a direction of an output with rows of all directions.
    fn write(&self, from: &[f32], direction: usize, out: &mut ViewMut<'_>) {
        let rows = out.elements() / (self.directions() * self.hidden).max(1);
        for (row, from) in from.chunks_exact(self.padded).take(rows).enumerate() {
            write_f32(out, (row * self.directions() + direction) * self.hidden, &from[..self.hidden]);
        }
    }

    /// Adds the products of the states of all instances with the weights of gates: `gates` are their elements from
    /// the first one on, in rows that are `stride` apart.
    fn add_states(
        &self,
        h: &[f32],
        hh: &[f32],
        gates: std::ops::Range<usize>,
        out: &mut [f32],
        stride: usize,
    ) {
        let size = [self.batch, self.hidden, gates.len() * self.padded];
        let panels = &hh[gates.start * self.padded * self.hidden..];
        gemv::add_product(self.isa, size, h, [self.padded, stride], panels, out);
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

    /// Inlined into the code of a step, which is compiled for each instruction set.
    #[inline(always)]
    fn apply(self, x: &mut [f32]) {
        match self {
            Activation::Linear => {}
            Activation::Relu => x.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x }),
            Activation::Sigmoid => x.iter_mut().for_each(|x| *x = math::sigmoid1(*x)),
            Activation::HardSigmoid => x.iter_mut().for_each(|x| *x = (0.2 * *x + 0.5).clamp(0.0, 1.0)),
            Activation::Tanh => x.iter_mut().for_each(|x| *x = math::tanh1(*x)),
        }
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
