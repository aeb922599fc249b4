//! Weights: single and half precision, quantized by scale and bias or by a lookup table.

use half::f16;
use milwright_formats::proto::quantization_params::QuantizationType;
use milwright_formats::proto::{QuantizationParams, WeightParams};
use milwright_mil::Tensor;

use crate::Error;

type Result<T> = std::result::Result<T, Error>;

/// Reads the weights as an fp32 tensor of this shape. Scales and biases, if there are several, run along `axis`.
pub(super) fn read(weights: Option<&WeightParams>, shape: &[usize], axis: usize) -> Result<Tensor> {
    let weights = weights.ok_or_else(|| Error::malformed("weights are missing"))?;
    let too_large = || Error::malformed(format!("weights of shape {shape:?} are too large"));
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(too_large)?;
    let values = values(weights, shape, axis, count)?;
    let found = values.len();
    Tensor::from_vec(shape, values)
        .map_err(|_| Error::malformed(format!("{found} weights, where the shape {shape:?} needs {count}")))
}

/// Returns the number of weights, as far as it shows without a shape: quantized weights may end in padding.
pub(super) fn count(weights: Option<&WeightParams>) -> usize {
    weights.map_or(0, |w| w.float_value.len().max(w.float16_value.len() / 2).max(w.raw_value.len()))
}

fn values(weights: &WeightParams, shape: &[usize], axis: usize, count: usize) -> Result<Vec<f32>> {
    if !weights.float_value.is_empty() {
        return Ok(weights.float_value.clone());
    }
    if !weights.float16_value.is_empty() {
        let halves = weights.float16_value.chunks_exact(2);
        return Ok(halves.map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect());
    }
    if !weights.int8_raw_value.is_empty() {
        let codes = weights.int8_raw_value.iter().map(|&b| f32::from(b as i8)).collect();
        return dequantize(codes, weights.quantization.as_ref(), shape, axis);
    }
    if weights.raw_value.is_empty() {
        return Ok(Vec::new());
    }
    let quantization = weights.quantization.as_ref();
    let quantization = quantization.ok_or_else(|| Error::malformed("raw weights without quantization"))?;
    let bits = quantization.number_of_bits as usize;
    if !(1..=8).contains(&quantization.number_of_bits) {
        return Err(Error::malformed(format!("weights of {} bits", quantization.number_of_bits)));
    }
    let packed = &weights.raw_value;
    let needed = count.checked_mul(bits).map(|n| n.div_ceil(8));
    if needed.is_none_or(|n| n > packed.len()) {
        let message = format!("{} bytes of weights, where {count} of {bits} bits are needed", packed.len());
        return Err(Error::malformed(message));
    }
    let codes = (0..count).map(|i| code(packed, i, bits));
    match &quantization.quantization_type {
        Some(QuantizationType::LookupTableQuantization(table)) => {
            let table = &table.float_value;
            let look_up = |code: u8| table.get(usize::from(code)).copied();
            let values: Option<Vec<f32>> = codes.map(look_up).collect();
            values.ok_or_else(|| Error::malformed("an index beyond the end of its lookup table"))
        }
        _ => dequantize(codes.map(f32::from).collect(), Some(quantization), shape, axis),
    }
}

/// Returns element `i` of packed unsigned integers of `bits` bits, most significant bit first.
fn code(packed: &[u8], i: usize, bits: usize) -> u8 {
    let (byte, offset) = (i * bits / 8, i * bits % 8);
    let next = packed.get(byte + 1).copied().unwrap_or(0);
    let window = u16::from_be_bytes([packed[byte], next]);
    ((window << offset) >> (16 - bits)) as u8
}

fn dequantize(
    mut codes: Vec<f32>,
    quantization: Option<&QuantizationParams>,
    shape: &[usize],
    axis: usize,
) -> Result<Vec<f32>> {
    let Some(QuantizationType::LinearQuantization(linear)) =
        quantization.and_then(|q| q.quantization_type.as_ref())
    else {
        return Err(Error::malformed("quantized weights without scale or lookup table"));
    };
    let channels = shape.get(axis).copied().unwrap_or(1);
    let inner: usize = shape.iter().skip(axis + 1).product();
    for (what, vector) in [("scales", &linear.scale), ("biases", &linear.bias)] {
        if !(vector.len() <= 1 || vector.len() == channels) {
            let message = format!("{} {what} of quantized weights for {channels} channels", vector.len());
            return Err(Error::malformed(message));
        }
    }
    let of = |vector: &[f32], channel: usize, default: f32| match vector {
        [] => default,
        [one] => *one,
        _ => vector[channel],
    };
    for (i, value) in codes.iter_mut().enumerate() {
        let channel = i / inner.max(1) % channels.max(1);
        *value = *value * of(&linear.scale, channel, 1.0) + of(&linear.bias, channel, 0.0);
    }
    Ok(codes)
}

#[cfg(test)]
mod tests {
    use milwright_formats::proto::{LinearQuantizationParams, LookUpTableQuantizationParams};

    use super::*;

    fn quantized(bits: u64, raw: &[u8], quantization: QuantizationType) -> WeightParams {
        WeightParams {
            raw_value: raw.to_vec().into(),
            quantization: Some(QuantizationParams {
                number_of_bits: bits,
                quantization_type: Some(quantization),
            }),
            ..WeightParams::default()
        }
    }

    /// The bytes are those of coremltools' `_convert_array_to_nbit_quantized_bytes([1, 5, 7, 2], 3)`.
    #[test]
    fn three_bits_straddle_bytes() {
        let table = LookUpTableQuantizationParams { float_value: (0..8).map(|i| i as f32 * 0.5).collect() };
        let weights =
            quantized(3, &[0b0011_0111, 0b1010_0000], QuantizationType::LookupTableQuantization(table));
        let tensor = read(Some(&weights), &[4], 0).unwrap();
        assert_eq!(tensor.to_vec::<f32>().unwrap(), [0.5, 2.5, 3.5, 1.0]);
    }

    #[test]
    fn scales_are_along_an_axis() {
        let linear = LinearQuantizationParams { scale: vec![1.0, 10.0], bias: vec![0.5] };
        let weights = quantized(8, &[1, 2, 3, 4], QuantizationType::LinearQuantization(linear));
        let rows = read(Some(&weights), &[2, 2], 0).unwrap();
        assert_eq!(rows.to_vec::<f32>().unwrap(), [1.5, 2.5, 30.5, 40.5]);
        let columns = read(Some(&weights), &[2, 2], 1).unwrap();
        assert_eq!(columns.to_vec::<f32>().unwrap(), [1.5, 20.5, 3.5, 40.5]);
    }

    #[test]
    fn lies_about_sizes_are_errors() {
        let table = LookUpTableQuantizationParams { float_value: vec![1.0] };
        let weights = quantized(1, &[0], QuantizationType::LookupTableQuantization(table));
        assert!(read(Some(&weights), &[usize::MAX, 2], 0).is_err());
        assert!(read(Some(&weights), &[1 << 40], 0).is_err());
        let floats = WeightParams { float_value: vec![1.0; 3], ..WeightParams::default() };
        assert!(read(Some(&floats), &[4], 0).unwrap_err().to_string().contains("3 weights"));
    }
}
