//! Linear quantization: int8, symmetric, one scale for each output channel.

use half::f16;
use milwright_mil::DType;

/// A weight as int8 times a scale per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// int8, in the shape of the weight; -127 to 127.
    pub data: Vec<i8>,
    /// One scale for each channel, representable in the weight's element type.
    pub scales: Vec<f32>,
}

/// The largest magnitude of a quantized weight: symmetric, so -128 is not used.
const LEVELS: f32 = 127.0;

/// Quantizes values of a row-major tensor whose dimension `axis` counts channels. Each scale is the channel's largest
/// magnitude over 127, rounded to `dtype` *before* the division, so that no error hides in the rounding.
///
/// All values must be finite.
pub fn quantize(values: &[f32], shape: &[usize], axis: usize, dtype: DType) -> Quantized {
    let channels = shape[axis];
    let inner: usize = shape[axis + 1..].iter().product();
    let channel = |i: usize| i / inner % channels;
    let mut largest = vec![0f32; channels];
    for (i, x) in values.iter().enumerate() {
        let m = &mut largest[channel(i)];
        *m = m.max(x.abs());
    }
    let scales: Vec<f32> = largest.iter().map(|m| scale(*m, dtype)).collect();
    let data = values.iter().enumerate().map(|(i, x)| {
        let q = (x / scales[channel(i)]).round_ties_even();
        q.clamp(-LEVELS, LEVELS) as i8
    });
    Quantized { data: data.collect(), scales }
}

/// A channel of zeros gets the scale 1: a scale of 0 would make it NaN.
fn scale(largest: f32, dtype: DType) -> f32 {
    let scale = largest / LEVELS;
    let scale = if dtype == DType::Fp16 {
        // A scale that rounds down would clip the largest weights: by at most half a step of fp16.
        f16::from_f32(scale).to_f32()
    } else {
        scale
    };
    if scale > 0.0 { scale } else { 1.0 }
}

/// The values that [`Quantized`] stands for, in f32.
pub fn dequantize(q: &Quantized, shape: &[usize], axis: usize) -> Vec<f32> {
    let inner: usize = shape[axis + 1..].iter().product();
    let value = |(i, &d): (usize, &i8)| f32::from(d) * q.scales[i / inner % shape[axis]];
    q.data.iter().enumerate().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_channel_on_each_axis() {
        let values = [1.0, -2.0, 127.0, 0.0, 0.5, -63.5];
        let q = quantize(&values, &[2, 3], 0, DType::Fp32);
        assert_eq!(q.scales, [1.0, 0.5]);
        assert_eq!(q.data, [1, -2, 127, 0, 1, -127]);
        let q = quantize(&values, &[2, 3], 1, DType::Fp32);
        assert_eq!(q.scales, [1.0 / 127.0, 2.0 / 127.0, 1.0]);
        assert_eq!(q.data, [127, -127, 127, 0, 32, -64]);
    }

    #[test]
    fn zeros_stay_zero() {
        let q = quantize(&[0.0; 4], &[2, 2], 0, DType::Fp16);
        assert_eq!(dequantize(&q, &[2, 2], 0), [0.0; 4]);
    }
}
