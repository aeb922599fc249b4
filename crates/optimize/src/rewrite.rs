//! Puts compressed weights in the place of constants.

use std::collections::HashMap;

use half::f16;
use half::slice::HalfFloatSliceExt;
use milwright_mil::{DType, Function, Input, OpKind, Opset, Tensor, Value};

use crate::weights::weights;
use crate::{Bits, Error, Quantization, Store, cluster, float_tensor, float_values, linear, to_f32};

/// What became of one weight.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightReport {
    /// The function that the weight is in.
    pub function: String,
    /// The name of the weight: of the `const` op's output.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// The element type before.
    pub dtype: DType,
    /// Bytes before.
    pub bytes_before: usize,
    /// Bytes after: data, scales, palettes.
    pub bytes_after: usize,
    /// Signal to noise of the weight's elements, in dB; infinite where nothing was lost; `None` if it was left alone.
    pub snr_db: Option<f64>,
    /// The largest absolute error of an element.
    pub max_error: f64,
    /// Why it was left alone, if it was.
    pub skipped: Option<String>,
}

impl WeightReport {
    /// Of a weight that is left alone.
    pub(crate) fn new(function: &str, name: &str, tensor: &Tensor) -> WeightReport {
        WeightReport {
            function: function.to_owned(),
            name: name.to_owned(),
            shape: tensor.shape().to_vec(),
            dtype: tensor.dtype(),
            bytes_before: tensor.bytes().len(),
            bytes_after: tensor.bytes().len(),
            snr_db: None,
            max_error: 0.0,
            skipped: None,
        }
    }
}

/// Compresses the weights of a program's functions, one at a time. A weight that functions share is compressed once.
#[derive(Debug, Default)]
pub(crate) struct Compressor {
    done: HashMap<Source, Compressed>,
}

/// What makes two weights the same one: the bytes that they lie in, and what is to become of them. All weights of a
/// program are in memory before the first is compressed, so that none takes the place of another.
type Source = (usize, Vec<usize>, DType, Option<usize>, bool);

/// What stands in the place of a weight.
#[derive(Clone, Debug)]
struct Compressed {
    kind: OpKind,
    inputs: Vec<(&'static str, Tensor)>,
    loss: Loss,
}

impl Compressor {
    /// Compresses every weight of a function.
    pub fn compress(
        &mut self,
        name: &str,
        function: &mut Function,
        quantization: Quantization,
        store: &mut dyn Store,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<WeightReport>, Error> {
        let found = weights(function);
        if found.is_empty() {
            return Ok(Vec::new());
        }
        // `constexpr_*` ops came with iOS16.
        function.opset = function.opset.max(Opset::Ios16);
        let mut reports = Vec::with_capacity(found.len());
        for weight in found {
            let tensor = function.const_value(weight.value).and_then(Value::as_tensor).cloned();
            let tensor = tensor.expect("`weights` finds constant tensors");
            let mut report = WeightReport::new(name, &function[weight.value].name, &tensor);
            match self.compress_one(&tensor, weight.channel_axis, quantization, function.opset, store)? {
                Ok(compressed) => {
                    report.bytes_after = compressed.inputs.iter().map(|(_, t)| t.bytes().len()).sum();
                    (report.snr_db, report.max_error) = (Some(compressed.loss.snr_db()), compressed.loss.max);
                    // The op takes the constant's place: same op name, same value, so that nothing else changes.
                    let op = &mut function[weight.op];
                    op.kind = compressed.kind;
                    let input = |(name, tensor): (&'static str, Tensor)| Input::constant(name, tensor);
                    op.inputs = compressed.inputs.into_iter().map(input).collect();
                    op.attributes.shift_remove("val");
                }
                Err(why) => report.skipped = Some(why.into()),
            }
            reports.push(report);
            progress(tensor.elements());
        }
        Ok(reports)
    }

    /// The compressed weight, or why it is left alone.
    fn compress_one(
        &mut self,
        tensor: &Tensor,
        channel_axis: Option<usize>,
        quantization: Quantization,
        opset: Opset,
        store: &mut dyn Store,
    ) -> Result<Result<Compressed, &'static str>, Error> {
        let source = (
            tensor.bytes().as_ptr().addr(),
            tensor.shape().to_vec(),
            tensor.dtype(),
            channel_axis,
            opset >= Opset::Ios18,
        );
        if let Some(compressed) = self.done.get(&source) {
            return Ok(Ok(compressed.clone()));
        }
        let values = float_values(tensor);
        if !values.iter().all(|x| x.is_finite()) {
            return Ok(Err("has NaN or infinity"));
        }
        let mut compressed = match quantization {
            Quantization::Palette(bits) => palette(&values, tensor, bits, opset),
            _ => match channel_axis {
                Some(axis) => int8(&values, tensor, axis, opset),
                None => return Ok(Err("its users disagree on where its output channels are")),
            },
        };
        drop(values);
        for (_, tensor) in &mut compressed.inputs {
            *tensor = store.store(tensor.clone())?;
        }
        self.done.insert(source, compressed.clone());
        Ok(Ok(compressed))
    }
}

fn palette(values: &[f32], tensor: &Tensor, bits: Bits, opset: Opset) -> Compressed {
    let (shape, dtype) = (tensor.shape(), tensor.dtype());
    let entries = 1 << bits.get();
    // The palette is stored in the weight's type: indices are chosen by what it holds after rounding.
    let mut centers = cluster::cluster(values, entries);
    centers = to_f32(&float_tensor(&centers, &[centers.len()], dtype));
    let indices = cluster::assign(values, &centers);
    let loss = Loss::of(values, indices.iter().map(|&i| centers[usize::from(i)]), dtype);
    centers.resize(entries, 0.0);
    let packed = milwright_mil::pack_bits(&indices, bits.get());
    drop(indices);
    let inputs = if opset >= Opset::Ios18 {
        let mut lut_shape = vec![1; shape.len()];
        lut_shape.extend([entries, 1]);
        let indices = Tensor::from_bytes(bits.dtype(), shape, packed.into());
        vec![
            ("indices", indices.expect("one index for each element")),
            ("lut", float_tensor(&centers, &lut_shape, dtype)),
        ]
    } else {
        let indices = Tensor::from_vec(&[packed.len()], packed);
        vec![
            ("indices", indices.expect("a vector's shape is its length")),
            ("lut", float_tensor(&centers, &[entries], dtype)),
            ("shape", shape_tensor(shape)),
        ]
    };
    Compressed { kind: OpKind::ConstexprLutToDense, inputs, loss }
}

fn int8(values: &[f32], tensor: &Tensor, axis: usize, opset: Opset) -> Compressed {
    let (shape, dtype) = (tensor.shape(), tensor.dtype());
    let q = linear::quantize(values, shape, axis, dtype);
    let loss = Loss::of(values, linear::dequantize(&q, shape, axis), dtype);
    let channels = q.scales.len();
    let data = Tensor::from_vec(shape, q.data).expect("one for each element");
    let (kind, inputs) = if opset >= Opset::Ios18 {
        let mut scale_shape = vec![1; shape.len()];
        scale_shape[axis] = channels;
        let scale = float_tensor(&q.scales, &scale_shape, dtype);
        (OpKind::ConstexprBlockwiseShiftScale, vec![("data", data), ("scale", scale)])
    } else {
        let zeros =
            Tensor::from_vec(&[channels], vec![0i8; channels]).expect("a vector's shape is its length");
        let scale = float_tensor(&q.scales, &[channels], dtype);
        let axis = Tensor::scalar(axis as i32);
        let inputs = vec![("quantized_data", data), ("zero_point", zeros), ("scale", scale), ("axis", axis)];
        (OpKind::ConstexprAffineDequantize, inputs)
    };
    Compressed { kind, inputs, loss }
}

fn shape_tensor(shape: &[usize]) -> Tensor {
    // A constant's dimensions fit: the tensor is in memory.
    let dims: Vec<u32> = shape.iter().map(|&n| n as u32).collect();
    Tensor::from_vec(&[dims.len()], dims).expect("a vector's shape is its length")
}

/// What is lost between values and those that stand for them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loss {
    signal: f64,
    noise: f64,
    /// The largest absolute error.
    pub max: f64,
}

impl Loss {
    /// The loss of storing `after`, rounded to `dtype`, for `before`.
    pub fn of(before: &[f32], after: impl IntoIterator<Item = f32>, dtype: DType) -> Loss {
        const CHUNK: usize = 1024;
        let (mut rounded, mut halves) = ([0f32; CHUNK], [f16::ZERO; CHUNK]);
        let mut after = after.into_iter();
        let mut loss = Loss::default();
        for before in before.chunks(CHUNK) {
            let rounded = &mut rounded[..before.len()];
            rounded.iter_mut().zip(&mut after).for_each(|(r, x)| *r = x);
            if dtype == DType::Fp16 {
                let halves = &mut halves[..before.len()];
                halves.convert_from_f32_slice(rounded);
                halves.convert_to_f32_slice(rounded);
            }
            for (&a, &b) in before.iter().zip(&*rounded) {
                let (a, e) = (f64::from(a), f64::from(a) - f64::from(b));
                loss.signal += a * a;
                loss.noise += e * e;
                loss.max = loss.max.max(e.abs());
            }
        }
        loss
    }

    /// Signal to noise in dB; infinite where nothing was lost.
    pub fn snr_db(&self) -> f64 {
        if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() }
    }
}
