//! Puts compressed weights in the place of constants.

use milwright_mil::{DType, Function, Input, OpKind, Opset, Tensor, Value};

use crate::weights::{Weight, weights};
use crate::{Bits, Error, Quantization, Store, cluster, float_tensor, linear, to_f32};

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

/// Compresses every weight of a function.
pub fn compress(
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
        let elements = tensor.elements();
        reports.push(compress_one(name, function, weight, tensor, quantization, store)?);
        progress(elements);
    }
    Ok(reports)
}

fn compress_one(
    function_name: &str,
    function: &mut Function,
    weight: Weight,
    tensor: Tensor,
    quantization: Quantization,
    store: &mut dyn Store,
) -> Result<WeightReport, Error> {
    let mut report = WeightReport {
        function: function_name.to_owned(),
        name: function[weight.value].name.clone(),
        shape: tensor.shape().to_vec(),
        dtype: tensor.dtype(),
        bytes_before: tensor.bytes().len(),
        bytes_after: tensor.bytes().len(),
        snr_db: None,
        max_error: 0.0,
        skipped: None,
    };
    let values = to_f32(&tensor);
    if !values.iter().all(|x| x.is_finite()) {
        report.skipped = Some("has NaN or infinity".into());
        return Ok(report);
    }
    let opset = function.opset;
    let (kind, inputs, restored) = match quantization {
        Quantization::Palette(bits) => palette(&values, &tensor, bits, opset),
        _ => {
            let Some(axis) = weight.channel_axis else {
                report.skipped = Some("its users disagree on where its output channels are".into());
                return Ok(report);
            };
            int8(&values, &tensor, axis, opset)
        }
    };
    (report.snr_db, report.max_error) = {
        let (snr, max) = error(&values, &restored);
        (Some(snr), max)
    };
    drop(restored);
    report.bytes_after = inputs.iter().map(|(_, t)| t.bytes().len()).sum();
    let mut stored = Vec::with_capacity(inputs.len());
    for (name, tensor) in inputs {
        stored.push(Input::constant(name, store.store(tensor)?));
    }
    // The op takes the constant's place: same op name, same value, so that nothing else changes.
    let op = &mut function[weight.op];
    op.kind = kind;
    op.inputs = stored;
    op.attributes.shift_remove("val");
    Ok(report)
}

/// The op, its inputs, and the values that it stands for.
type Compressed = (OpKind, Vec<(&'static str, Tensor)>, Vec<f32>);

fn palette(values: &[f32], tensor: &Tensor, bits: Bits, opset: Opset) -> Compressed {
    let (shape, dtype) = (tensor.shape(), tensor.dtype());
    let entries = 1 << bits.get();
    // The palette is stored in the weight's type: indices are chosen by what it holds after rounding.
    let mut centers = cluster::cluster(values, entries);
    centers = to_f32(&float_tensor(&centers, &[centers.len()], dtype));
    let indices = cluster::assign(values, &centers);
    let restored = indices.iter().map(|&i| centers[usize::from(i)]).collect();
    centers.resize(entries, 0.0);
    let packed = milwright_mil::pack_bits(&indices, bits.get());
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
    (OpKind::ConstexprLutToDense, inputs, restored)
}

fn int8(values: &[f32], tensor: &Tensor, axis: usize, opset: Opset) -> Compressed {
    let (shape, dtype) = (tensor.shape(), tensor.dtype());
    let q = linear::quantize(values, shape, axis, dtype);
    // What the op computes is rounded to the weight's type, too.
    let restored = to_f32(&float_tensor(&linear::dequantize(&q, shape, axis), shape, dtype));
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
    (kind, inputs, restored)
}

fn shape_tensor(shape: &[usize]) -> Tensor {
    // A constant's dimensions fit: the tensor is in memory.
    let dims: Vec<u32> = shape.iter().map(|&n| n as u32).collect();
    Tensor::from_vec(&[dims.len()], dims).expect("a vector's shape is its length")
}

/// Signal to noise in dB, and the largest absolute error.
pub(crate) fn error(before: &[f32], after: &[f32]) -> (f64, f64) {
    let (mut signal, mut noise, mut max) = (0f64, 0f64, 0f64);
    for (&a, &b) in before.iter().zip(after) {
        let (a, e) = (f64::from(a), f64::from(a) - f64::from(b));
        signal += a * a;
        noise += e * e;
        max = max.max(e.abs());
    }
    let snr = if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() };
    (snr, max)
}
