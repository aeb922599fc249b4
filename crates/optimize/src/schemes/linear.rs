//! Linear quantization: int8, symmetric, one scale for each output channel.

use half::f16;
use milwright_mil::{DType, OpKind, Opset, Tensor, param};

use crate::float_tensor;
use crate::loss::Loss;
use crate::scheme::{Compressed, FloatWeight, Scheme};

/// int8 values, symmetric around zero, with one scale for each output channel.
pub static INT8: Int8PerChannel = Int8PerChannel;

/// See [`INT8`].
#[derive(Debug)]
pub struct Int8PerChannel;

impl Scheme for Int8PerChannel {
    fn compress(&self, weight: &FloatWeight<'_>, opset: Opset) -> Result<Compressed, &'static str> {
        let &FloatWeight { values, shape, dtype, channel_axis } = weight;
        let axis = channel_axis.ok_or("its users disagree on where its output channels are")?;
        let q = quantize(values, shape, axis, dtype);
        let loss = Loss::of(values, dequantize(&q, shape, axis), dtype);
        let channels = q.scales.len();
        let data = Tensor::from_vec(shape, q.data).expect("one for each element");
        let (kind, inputs) = if opset >= Opset::Ios18 {
            let mut scale_shape = vec![1; shape.len()];
            scale_shape[axis] = channels;
            let scale = float_tensor(&q.scales, &scale_shape, dtype);
            (
                OpKind::ConstexprBlockwiseShiftScale,
                vec![
                    (param!(ConstexprBlockwiseShiftScale.data), data),
                    (param!(ConstexprBlockwiseShiftScale.scale), scale),
                ],
            )
        } else {
            let zeros = Tensor::from_vec(&[channels], vec![0i8; channels]);
            let inputs = vec![
                (param!(ConstexprAffineDequantize.quantized_data), data),
                (
                    param!(ConstexprAffineDequantize.zero_point),
                    zeros.expect("a vector's shape is its length"),
                ),
                (param!(ConstexprAffineDequantize.scale), float_tensor(&q.scales, &[channels], dtype)),
                (param!(ConstexprAffineDequantize.axis), Tensor::scalar(axis as i32)),
            ];
            (OpKind::ConstexprAffineDequantize, inputs)
        };
        Ok(Compressed { kind, inputs, loss })
    }
}

/// A weight as int8 values times a scale for each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// int8, in the shape of the weight; -127 to 127.
    pub data: Vec<i8>,
    /// One scale for each channel, representable in the weight's element type.
    pub scales: Vec<f32>,
}

/// The largest magnitude of a quantized weight: symmetric, so -128 is not used.
const LEVELS: f32 = 127.0;

/// Quantizes a row-major tensor whose dimension `axis` is that of the channels. Each scale is the channel's largest
/// magnitude over 127, rounded to `dtype` *before* the division, so that the values make up for the rounding.
///
/// All values must be finite.
pub fn quantize(values: &[f32], shape: &[usize], axis: usize, dtype: DType) -> Quantized {
    let mut largest = vec![0f32; shape[axis]];
    for (x, channel) in values.iter().zip(channels(shape, axis)) {
        largest[channel] = largest[channel].max(x.abs());
    }
    let scales: Vec<f32> = largest.iter().map(|m| scale(*m, dtype)).collect();
    let data = values.iter().zip(channels(shape, axis)).map(|(x, channel)| {
        let q = (x / scales[channel]).round_ties_even();
        q.clamp(-LEVELS, LEVELS) as i8
    });
    Quantized { data: data.collect(), scales }
}

/// Returns the channel of each element, in order.
fn channels(shape: &[usize], axis: usize) -> impl Iterator<Item = usize> + use<> {
    let (count, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let (mut channel, mut left) = (0, inner);
    std::iter::repeat_with(move || {
        if left == 0 {
            left = inner;
            channel = if channel + 1 == count { 0 } else { channel + 1 };
        }
        left -= 1;
        channel
    })
}

/// Returns the scale of a channel. A channel of zeros gets the scale 1, because with a scale of 0 it would become NaN.
/// The smallest positive scale is enough for a channel whose magnitudes are so small that their scale would round to 0.
fn scale(largest: f32, dtype: DType) -> f32 {
    let (scale, least) = if dtype == DType::Fp16 {
        // If the scale rounds down, the largest weights are clipped: by at most half a step of fp16.
        (f16::from_f32(largest / LEVELS).to_f32(), f16::MIN_POSITIVE_SUBNORMAL.to_f32())
    } else {
        (largest / LEVELS, f32::from_bits(1))
    };
    if largest > 0.0 { scale.max(least) } else { 1.0 }
}

/// Returns the values that a [`Quantized`] represents, in order.
pub fn dequantize<'a>(q: &'a Quantized, shape: &[usize], axis: usize) -> impl Iterator<Item = f32> + 'a {
    q.data.iter().zip(channels(shape, axis)).map(|(&d, channel)| f32::from(d) * q.scales[channel])
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
        assert!(dequantize(&q, &[2, 2], 0).all(|x| x == 0.0));
    }

    #[test]
    fn next_to_nothing_is_kept() {
        let tiny = f16::MIN_POSITIVE_SUBNORMAL.to_f32();
        let values = [tiny, -3.0 * tiny];
        let q = quantize(&values, &[1, 2], 0, DType::Fp16);
        assert!(dequantize(&q, &[1, 2], 0).eq(values));
    }
}
