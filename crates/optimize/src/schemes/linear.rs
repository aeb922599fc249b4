//! Linear quantization: integers with a scale, and possibly a zero point, for each block of a tensor.

use half::f16;
use milwright_mil::DType;

use crate::blocks::for_each_run;
use crate::code::{FloatWeight, Scaled};

/// Integers with scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// int8, uint8, int4 or uint4.
    pub dtype: DType,
    /// Whether zero is in the middle of the range, so that no zero points are needed.
    pub symmetric: bool,
    /// Which elements share a scale.
    pub blocks: Blocks,
}

/// Which elements share a scale.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Blocks {
    /// All.
    Tensor,
    /// Those of an output channel.
    Channel,
    /// This many along the input channels, of one output channel; and all along the other dimensions.
    Along(usize),
    /// This many along each dimension; 0 is all.
    Each(Vec<usize>),
}

impl Linear {
    /// Symmetric, with a scale for each output channel.
    pub const fn new(dtype: DType) -> Linear {
        Linear { dtype, symmetric: true, blocks: Blocks::Channel }
    }

    /// The least and the greatest integer.
    fn range(&self) -> (i32, i32) {
        let levels = 1 << self.dtype.bits();
        let symmetric = i32::from(self.symmetric);
        match self.dtype {
            DType::Int8 | DType::Int4 => (symmetric - levels / 2, levels / 2 - 1),
            _ => (0, levels - 1 - symmetric),
        }
    }

    /// Returns the integers nearest to the values.
    ///
    /// # Errors
    /// The blocks do not suit the weight.
    pub(crate) fn quantize(&self, values: &[f32], weight: &FloatWeight<'_>) -> Result<Scaled, String> {
        Ok(self.quantize_blocks(values, weight.shape, self.counts(weight)?, weight.dtype))
    }

    /// The number of blocks in each dimension.
    fn counts(&self, weight: &FloatWeight<'_>) -> Result<Vec<usize>, String> {
        let shape = weight.shape;
        let mut counts = vec![1; shape.len()];
        let disagree = |what| format!("its users disagree on where its {what} channels are");
        match &self.blocks {
            Blocks::Tensor => {}
            Blocks::Channel => {
                let axis = weight.output_axis.ok_or_else(|| disagree("output"))?;
                counts[axis] = shape[axis];
            }
            &Blocks::Along(size) => {
                let axis = weight.output_axis.ok_or_else(|| disagree("output"))?;
                let input = weight.input_axis.ok_or_else(|| disagree("input"))?;
                if !shape[input].is_multiple_of(size) {
                    let n = shape[input];
                    return Err(format!("{n} input channels are not divisible by a block size of {size}"));
                }
                counts[axis] = shape[axis];
                counts[input] = shape[input] / size;
            }
            Blocks::Each(sizes) => {
                if sizes.len() != shape.len() {
                    let (n, rank) = (sizes.len(), shape.len());
                    return Err(format!("it has {rank} dimensions, and there are {n} block sizes"));
                }
                for ((count, &n), &size) in counts.iter_mut().zip(shape).zip(sizes) {
                    let size = if size == 0 { n } else { size };
                    if !n.is_multiple_of(size) {
                        return Err(format!("a dimension of {n} is not divisible by a block size of {size}"));
                    }
                    *count = n / size;
                }
            }
        }
        Ok(counts)
    }

    /// Quantizes values of any shape with these blocks. Each scale is rounded to `dtype` *before* the division, so that
    /// the integers make up for the rounding.
    pub(crate) fn quantize_blocks(
        &self,
        values: &[f32],
        shape: &[usize],
        counts: Vec<usize>,
        dtype: DType,
    ) -> Scaled {
        let blocks: usize = counts.iter().product();
        let (mut low, mut high) = (vec![f32::INFINITY; blocks], vec![f32::NEG_INFINITY; blocks]);
        for_each_run(shape, &counts, |range, block, step| {
            let values = &values[range];
            if step == 0 {
                let (least, most) = extremes(values);
                (low[block], high[block]) = (low[block].min(least), high[block].max(most));
            } else if step == 1 {
                let (low, high) = (&mut low[block..][..values.len()], &mut high[block..][..values.len()]);
                low.iter_mut().zip(values).for_each(|(l, x)| *l = l.min(*x));
                high.iter_mut().zip(values).for_each(|(h, x)| *h = h.max(*x));
            } else {
                for (i, x) in values.iter().enumerate() {
                    let block = block + i * step;
                    (low[block], high[block]) = (low[block].min(*x), high[block].max(*x));
                }
            }
        });
        let (least, most) = self.range();
        let mut scales = Vec::with_capacity(blocks);
        let mut zeros = Vec::with_capacity(blocks);
        for (&low, &high) in low.iter().zip(&high) {
            let (scale, zero) = if self.symmetric {
                // For unsigned integers the zero point is in the middle.
                let middle = (least + most) / 2;
                (scale(low.abs().max(high.abs()), (most - least) / 2, dtype), middle)
            } else {
                let (low, high) = (low.min(0.0), high.max(0.0));
                // The width may be above the range of f32.
                (widest(f64::from(high) - f64::from(low), most - least, dtype), 0)
            };
            scales.push(scale);
            zeros.push(zero);
        }
        if !self.symmetric {
            let below = |scales: &[f32]| -> Vec<i32> {
                let zero = |(low, scale): (&f32, &f32)| {
                    let zero = f64::from(least) - f64::from(low.min(0.0)) / f64::from(*scale);
                    (zero.floor() as i32).clamp(least, most - 1)
                };
                low.iter().zip(scales).map(zero).collect()
            };
            // Of the two integers next to the ideal zero point, the one with the smaller error.
            zeros = below(&scales);
            let errors = self.errors(values, shape, &counts, &scales, &zeros);
            zeros.iter_mut().zip(&errors).filter(|(_, e)| e[1] < e[0]).for_each(|(z, _)| *z += 1);
            if dtype == DType::Fp16 {
                // Where the width is rounded before it is divided, the scale may be the next one, and a better one.
                let rounded = |(&low, &high): (&f32, &f32)| {
                    let width = f16::from_f32(high.max(0.0) - low.min(0.0)).to_f64();
                    if width.is_finite() { widest(width, most - least, dtype) } else { f32::NAN }
                };
                let others: Vec<f32> = low.iter().zip(&high).map(rounded).collect();
                if others.iter().zip(&scales).any(|(a, b)| a.is_finite() && a != b) {
                    let others: Vec<f32> = others
                        .into_iter()
                        .zip(&scales)
                        .map(|(a, &b)| if a.is_finite() { a } else { b })
                        .collect();
                    let other_zeros = below(&others);
                    let found = self.errors(values, shape, &counts, &others, &other_zeros);
                    for (block, (old, new)) in errors.iter().zip(found).enumerate() {
                        if new[0].min(new[1]) < old[0].min(old[1]) {
                            scales[block] = others[block];
                            zeros[block] = other_zeros[block] + i32::from(new[1] < new[0]);
                        }
                    }
                }
            }
        }
        let mut data = vec![0u8; values.len()];
        let bounds = |block: usize| ((least - zeros[block]) as f32, (most - zeros[block]) as f32);
        for_each_run(shape, &counts, |range, block, step| {
            let (values, data) = (&values[range.clone()], &mut data[range]);
            if step == 0 {
                let (scale, zero, (low, high)) = (scales[block], zeros[block], bounds(block));
                for (d, x) in data.iter_mut().zip(values) {
                    *d = (rounded(x / scale, low, high) + zero) as u8;
                }
            } else {
                for (i, (d, x)) in data.iter_mut().zip(values).enumerate() {
                    let block = block + i * step;
                    let (low, high) = bounds(block);
                    *d = (rounded(x / scales[block], low, high) + zeros[block]) as u8;
                }
            }
        });
        let needs_zeros = !(self.symmetric && least < 0);
        let zeros = needs_zeros.then(|| zeros.iter().map(|&z| z as u8).collect());
        Scaled { dtype: self.dtype, data, counts, scales, zeros }
    }

    /// The squared errors of each block with its zero point, and with the next one.
    fn errors(
        &self,
        values: &[f32],
        shape: &[usize],
        counts: &[usize],
        scales: &[f32],
        zeros: &[i32],
    ) -> Vec<[f64; 2]> {
        let (least, most) = self.range();
        let mut errors = vec![[0f64; 2]; scales.len()];
        for_each_run(shape, counts, |range, block, step| {
            for (i, x) in values[range].iter().enumerate() {
                let block = block + i * step;
                let (scale, at) = (scales[block], x / scales[block]);
                for (up, error) in errors[block].iter_mut().enumerate() {
                    let zero = zeros[block] + up as i32;
                    let q = rounded(at, (least - zero) as f32, (most - zero) as f32);
                    *error += f64::from(x - q as f32 * scale).powi(2);
                }
            }
        });
        errors
    }
}

/// Rounds to the nearest integer within bounds, ties to even.
fn rounded(x: f32, low: f32, high: f32) -> i32 {
    // Adding and subtracting 1.5 · 2^23 rounds a small float to an integer, in the rounding mode of the hardware: to
    // nearest, ties to even. The low bits of the sum are then the integer.
    const MAGIC: f32 = 12_582_912.0;
    let sum = x.clamp(low, high) + MAGIC;
    (sum.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32)
}

fn extremes(values: &[f32]) -> (f32, f32) {
    const LANES: usize = 16;
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let chunks = values.chunks_exact(LANES);
    for &x in chunks.remainder() {
        (low[0], high[0]) = (low[0].min(x), high[0].max(x));
    }
    for chunk in chunks {
        for i in 0..LANES {
            low[i] = if chunk[i] < low[i] { chunk[i] } else { low[i] };
            high[i] = if chunk[i] > high[i] { chunk[i] } else { high[i] };
        }
    }
    (low.into_iter().fold(f32::INFINITY, f32::min), high.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

/// Returns the scale of a block whose largest magnitude becomes `levels`. A block of zeros gets the scale 1, because
/// with a scale of 0 it would become NaN.
fn scale(largest: f32, levels: i32, dtype: DType) -> f32 {
    widest(f64::from(largest), levels, dtype)
}

/// Returns `width` over `levels` in `dtype`. Where scales are so small that rounding is coarse, it is not rounded down
/// by more than what clips half a step.
fn widest(width: f64, levels: i32, dtype: DType) -> f32 {
    if width <= 0.0 {
        return 1.0;
    }
    let exact = width / f64::from(levels);
    if dtype == DType::Fp16 {
        let mut scale = f16::from_f64(exact);
        if scale.to_f64() * (f64::from(levels) + 0.5) < width {
            scale = f16::from_bits(scale.to_bits() + 1);
        }
        return scale.to_f32();
    }
    let scale = exact as f32;
    if f64::from(scale) * (f64::from(levels) + 0.5) < width {
        f32::from_bits(scale.to_bits() + 1)
    } else {
        scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(linear: &Linear, values: &[f32], shape: &[usize], counts: &[usize], dtype: DType) -> Scaled {
        linear.quantize_blocks(values, shape, counts.to_vec(), dtype)
    }

    #[test]
    fn per_channel_on_each_axis() {
        let values = [1.0, -2.0, 127.0, 0.0, 0.5, -63.5];
        let int8 = Linear::new(DType::Int8);
        let q = quantized(&int8, &values, &[2, 3], &[2, 1], DType::Fp32);
        assert_eq!(q.scales, [1.0, 0.5]);
        assert_eq!(q.data, [1, -2, 127, 0, 1, -127].map(|x: i8| x as u8));
        assert_eq!(q.zeros, None);
        let q = quantized(&int8, &values, &[2, 3], &[1, 3], DType::Fp32);
        assert_eq!(q.scales, [1.0 / 127.0, 2.0 / 127.0, 1.0]);
        assert_eq!(q.data, [127, -127, 127, 0, 32, -64].map(|x: i8| x as u8));
        assert_eq!(q.decode(&[2, 3])[4], 32.0 * (2.0 / 127.0));
    }

    /// The ranges, scales and zero points that coremltools documents. In fp32, two sevenths are a little more, so that -1
    /// is nearer to -3 of them than to -4.
    #[test]
    fn ranges_and_zero_points() {
        let values = [-1.0, 0.0, 0.25, 2.0];
        let of = |dtype, symmetric| {
            let linear = Linear { dtype, symmetric, blocks: Blocks::Tensor };
            let q = quantized(&linear, &values, &[4], &[1], DType::Fp32);
            (q.scales[0], q.zeros.map(|z| z[0] as i8), q.data.iter().map(|&d| d as i8).collect::<Vec<_>>())
        };
        assert_eq!(of(DType::Int8, true), (2.0 / 127.0, None, vec![-64, 0, 16, 127]));
        assert_eq!(of(DType::Int8, false), (3.0 / 255.0, Some(-43), vec![-128, -43, -22, 127]));
        assert_eq!(
            of(DType::UInt8, true),
            (2.0 / 127.0, Some(127), vec![63, 127, 143_u8 as i8, 254_u8 as i8])
        );
        assert_eq!(of(DType::UInt8, false), (3.0 / 255.0, Some(85), vec![0, 85, 106, 255_u8 as i8]));
        assert_eq!(of(DType::Int4, true), (2.0 / 7.0, None, vec![-3, 0, 1, 7]));
        assert_eq!(of(DType::Int4, false), (3.0 / 15.0, Some(-3), vec![-8, -3, -2, 7]));
        assert_eq!(of(DType::UInt4, true), (2.0 / 7.0, Some(7), vec![4, 7, 8, 14]));
        assert_eq!(of(DType::UInt4, false), (3.0 / 15.0, Some(5), vec![0, 5, 6, 15]));
    }

    #[test]
    fn extreme_values_are_kept() {
        let tiny = f16::MIN_POSITIVE_SUBNORMAL.to_f32();
        for symmetric in [true, false] {
            for dtype in [DType::Int8, DType::UInt8] {
                let linear = Linear { dtype, symmetric, blocks: Blocks::Tensor };
                let back = |values: &[f32], of| {
                    quantized(&linear, values, &[values.len()], &[1], of).decode(&[values.len()])
                };
                assert_eq!(back(&[0.0; 4], DType::Fp16), [0.0; 4]);
                assert_eq!(back(&[tiny, -3.0 * tiny], DType::Fp16), [tiny, -3.0 * tiny]);
                let least = f32::from_bits(1);
                assert_eq!(back(&[least, -least], DType::Fp32), [least, -least]);
                // The width of the range is above that of f32.
                assert!(back(&[3e38, -3e38], DType::Fp32).iter().all(|x| x.is_finite() && x.abs() > 2.9e38));
                assert!(back(&[65504.0, -65504.0], DType::Fp16).iter().all(|x| x.abs() > 65000.0));
                // A scale that fp16 rounds coarsely does not clip: 5e-5 / 127 is 6.6 times the least fp16 number.
                for x in [5e-5, 1.3e-5, 9.1e-6, 2e-4] {
                    let x = f16::from_f32(x).to_f32();
                    let error = (back(&[x, -x / 2.0], DType::Fp16)[0] - x).abs();
                    assert!(error <= (0.6 * x / 127.0).max(1.01 * tiny), "{x}: {error}");
                }
            }
        }
    }

    #[test]
    fn rounding_is_to_even() {
        for (x, y) in [(0.5, 0), (1.5, 2), (-0.5, 0), (-2.5, -2), (2.51, 3), (1e30, 127), (-1e30, -127)] {
            assert_eq!(rounded(x, -127.0, 127.0), y, "{x}");
        }
    }
}
