//! Quantization: weights stay compressed, activations are computed with.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, Opset, Tensor, ValueId};

use super::cast;
use super::compose::{V, one};
use super::conv::{self, Pads, Window};
use super::elem::Elem;
use super::node::Node;
use crate::Error;
use crate::lower::{Lowering, Result, Size, i32_from, op};

/// The most terms of products of two 8-bit numbers whose sum fp32 holds exactly.
const EXACT_TERMS: usize = 512;

/// A scale or zero point in a shape that broadcasts to the tensor: one number, one for each index of the axis, or one for
/// each block along it.
fn spread(
    n: &mut Lowering,
    p: ValueId,
    rank: usize,
    axis: usize,
    block: usize,
    size: Size,
) -> Result<ValueId> {
    match n.rank(p)? {
        0 => Ok(p),
        1 if n.dim(p, 0)?.fixed() == Some(1) && block == 0 => n.squeeze(p, &[0]),
        1 if block == 0 => {
            let axes: Vec<i32> = (1..(rank - axis) as i32).collect();
            n.expand_dims(p, &axes)
        }
        _ if block > 0 => {
            let places = n.range_to(&size)?;
            let places = n.floor_div(places, block as f64)?;
            n.gather(p, places, axis)
        }
        _ => Ok(p),
    }
}

fn axis_of(n: &mut Node<'_, '_>, x: ValueId) -> Result<usize> {
    let rank = n.rank(x)?;
    if rank == 0 {
        return Ok(0);
    }
    // The default is 1, which a vector does not have; it matters only where there is a number for each index.
    let axis = n.int_or("axis", 1)?;
    if axis == 1 && rank == 1 { Ok(0) } else { n.axis(x, axis) }
}

pub(super) fn dequantize(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let scale = n.need(1)?;
    let block = usize::try_from(n.int_or("block_size", 0)?).unwrap_or(0);
    let elem = match n.int_or("output_dtype", 0)? {
        0 => scale.elem,
        code => cast::elem_of(code)?,
    };
    if let Some(weight) = compressed(n, scale, block)? {
        let y = n.cast(weight, elem.carried()?)?;
        return one(y, elem);
    }
    let x = n.need(0)?;
    let axis = axis_of(n, x.id)?;
    let rank = n.rank(x.id)?;
    let size = if rank == 0 { Size::Fixed(1) } else { Size::Of(x.id, axis..axis + 1) };
    let mut codes = x.id;
    if let Some(zero) = n.opt(2)? {
        let zero = spread(n, zero.id, rank, axis, block, size.clone())?;
        codes = n.sub(codes, zero)?;
    }
    let real = n.float_of(codes)?;
    let factor = n.float_of(scale.id)?;
    let factor = spread(n, factor, rank, axis, block, size)?;
    let y = n.mul(real, factor)?;
    let y = n.cast(y, elem.carried()?)?;
    cast::finish(n, y, elem)
}

/// A constant weight as a `constexpr` op, which keeps it as small as it is.
fn compressed(n: &mut Node<'_, '_>, scale: V, block: usize) -> Result<Option<ValueId>> {
    let Some(stored) = n.stored(0) else { return Ok(None) };
    let (data, elem) = (stored.tensor.clone(), stored.elem);
    let Some(scales) = n.builder.known(scale.id).cloned() else { return Ok(None) };
    if data.elements() == 0 || !scales.dtype().is_float() {
        return Ok(None);
    }
    let zero = match n.has(2) {
        true => match n.stored(2) {
            Some(zero) => Some(zero.tensor.clone()),
            None => return Ok(None),
        },
        false => None,
    };
    let rank = data.shape().len();
    let axis = match rank {
        0 => return Ok(None),
        _ => {
            let axis = n.int_or("axis", 1)?;
            let axis = if axis == 1 && rank == 1 { 0 } else { axis };
            crate::lower::normalize(axis, rank)?
        }
    };
    let bytes = matches!(elem, Elem::Int8 | Elem::Uint8);
    let plain = scales.shape().is_empty() || scales.shape().len() == 1;
    if bytes && block == 0 && plain && n.prefers(Opset::Ios16) {
        let zero = match zero {
            Some(zero) => zero,
            None if elem == Elem::Int8 => Tensor::scalar(0i8),
            None => Tensor::scalar(0u8),
        };
        // One number stands for all indices of the axis.
        let single = |t: Tensor| if t.shape() == [1] { t.reshaped(&[]).unwrap_or(t) } else { t };
        let (scales, zero) = (single(scales), single(zero));
        let y = op!(
            n,
            ConstexprAffineDequantize,
            quantized_data = data,
            zero_point = zero,
            scale = scales,
            axis = axis as i32
        )?;
        return Ok(Some(y));
    }
    let small = matches!(elem, Elem::Int4 | Elem::Uint4);
    if !(bytes || small) || rank > 5 || !n.prefers(Opset::Ios18) {
        return Ok(None);
    }
    // Scale and offset have as many dimensions as the data.
    let shape: Vec<usize> = match (scales.shape().len(), block) {
        (0 | 1, 0) if scales.elements() == 1 => vec![1; rank],
        (1, 0) => (0..rank).map(|d| if d == axis { scales.elements() } else { 1 }).collect(),
        (r, _) if r == rank => scales.shape().to_vec(),
        _ => return Ok(None),
    };
    if (0..rank).any(|d| shape[d] == 0 || data.shape()[d] % shape[d] != 0) {
        return Ok(None);
    }
    let fit = |t: Tensor| t.reshaped(&shape).map_err(|e| Error::malformed(e.to_string()));
    let scales = fit(scales)?;
    let y = match zero {
        Some(zero) if zero.to_i64().is_some_and(|z| z.iter().any(|&z| z != 0)) => {
            let zero = fit(zero)?;
            op!(n, ConstexprBlockwiseShiftScale, data = data, scale = scales, offset = zero)?
        }
        _ => op!(n, ConstexprBlockwiseShiftScale, data = data, scale = scales)?,
    };
    Ok(Some(y))
}

pub(super) fn quantize(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (x, scale, zero) = (n.need(0)?, n.need(1)?, n.opt(2)?);
    let block = usize::try_from(n.int_or("block_size", 0)?).unwrap_or(0);
    let saturate = n.flag("saturate", true)?;
    let elem = match (n.int_or("output_dtype", 0)?, zero) {
        (0, Some(zero)) => zero.elem,
        (0, None) => Elem::Uint8,
        (code, _) => cast::elem_of(code)?,
    };
    let axis = axis_of(n, x.id)?;
    let rank = n.rank(x.id)?;
    let size = if rank == 0 { Size::Fixed(1) } else { Size::Of(x.id, axis..axis + 1) };
    let precision = match n.int_or("precision", 0)? {
        0 => None,
        code => Some(cast::elem_of(code)?.carried()?),
    };
    // Division happens in the type of the input, unless another precision is asked for.
    let dtype = match (precision, n.dtype(x.id)?) {
        (Some(dtype), _) => dtype,
        (None, DType::Fp16) => DType::Fp16,
        (None, _) => DType::Fp32,
    };
    let real = n.cast(x.id, dtype)?;
    let factor = n.cast(scale.id, dtype)?;
    let factor = spread(n, factor, rank, axis, block, size.clone())?;
    let ratio = n.div(real, factor)?;
    let Some((low, high)) = elem.int_range() else {
        if elem.is_int() {
            return Err(Error::malformed(format!("quantization to {}", elem.name())));
        }
        let ratio = n.float_of(ratio)?;
        let y = cast::to_elem(n, V { id: ratio, elem: Elem::Float }, elem, saturate, "up")?;
        return one(y, elem);
    };
    let zero = match zero {
        Some(zero) => Some(spread(n, zero.id, rank, axis, block, size)?),
        None => None,
    };
    let y = codes(n, ratio, zero, low, high)?;
    one(y, elem)
}

/// The nearest code, halves to even, moved by the zero point and into the range of codes.
fn codes(n: &mut Lowering, ratio: ValueId, zero: Option<ValueId>, low: i32, high: i32) -> Result<ValueId> {
    let rounded = n.un(Round, ratio)?;
    let mut rounded = n.float_of(rounded)?;
    if let Some(zero) = zero {
        let zero = n.float_of(zero)?;
        rounded = n.add(rounded, zero)?;
    }
    let (alpha, beta) = (low as f32, high as f32);
    let clipped = op!(n, Clip, x = rounded, alpha = alpha, beta = beta)?;
    n.cast(clipped, DType::Int32)
}

/// Quantizes to uint8 by the range of the elements, which always includes zero.
pub(super) fn dynamic_quantize(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let (y, scale, zero) = dynamic(n, x.id)?;
    Ok(vec![
        V { id: y, elem: Elem::Uint8 },
        V { id: scale, elem: Elem::Float },
        V { id: zero, elem: Elem::Uint8 },
    ])
}

/// Codes, scale and zero point.
pub(super) fn dynamic(n: &mut Lowering, x: ValueId) -> Result<(ValueId, ValueId, ValueId)> {
    let x = n.float_of(x)?;
    let axes: Vec<usize> = (0..n.rank(x)?).collect();
    let (mut high, mut low) = (x, x);
    if !axes.is_empty() {
        high = n.reduce(ReduceMax, x, &axes, false)?;
        low = n.reduce(ReduceMin, x, &axes, false)?;
    }
    let high = n.max(high, 0.0)?;
    let low = n.min(low, 0.0)?;
    let range = n.sub(high, low)?;
    let scale = n.div(range, 255.0)?;
    // Of nothing but zeros, any scale gives zeros.
    let none = n.equal(scale, 0.0)?;
    let scale = n.select(none, 1.0, scale)?;
    let zero = n.div(low, scale)?;
    let zero = n.neg(zero)?;
    let zero = codes(n, zero, None, 0, 255)?;
    let ratio = n.div(x, scale)?;
    let y = codes(n, ratio, Some(zero), 0, 255)?;
    Ok((y, scale, zero))
}

/// Codes less their zero point, as fp32. `column` says whether a vector of zero points has one for each column, not row.
pub(super) fn centered(
    n: &mut Lowering,
    codes: ValueId,
    zero: Option<ValueId>,
    column: bool,
) -> Result<ValueId> {
    let codes = n.float_of(codes)?;
    let Some(zero) = zero else { return Ok(codes) };
    let mut zero = n.float_of(zero)?;
    if n.rank(zero)? == 1 {
        zero = match n.dim(zero, 0)?.fixed() {
            Some(1) => n.squeeze(zero, &[0])?,
            _ if column => zero,
            _ => n.expand_dims(zero, &[1])?,
        };
    }
    n.sub(codes, zero)
}

/// The exact product of integers below 2⁹, as int32: fp32 adds up so many products exactly, int32 the rest.
pub(super) fn exact_product(n: &mut Lowering, a: ValueId, b: ValueId) -> Result<ValueId> {
    let (rank_a, rank_b) = (n.rank(a)?, n.rank(b)?);
    let left = if rank_a == 1 { n.expand_dims(a, &[0])? } else { a };
    let right = if rank_b == 1 { n.expand_dims(b, &[1])? } else { b };
    let (last, before) = (n.rank(left)? - 1, n.rank(right)? - 2);
    let terms = n.dim(left, last)?.fixed().or(n.dim(right, before)?.fixed());
    let mut y = match terms {
        Some(terms) if terms <= EXACT_TERMS => {
            let y = n.matmul(left, right, false, false)?;
            n.cast(y, DType::Int32)?
        }
        Some(terms) => {
            let mut sum: Option<ValueId> = None;
            for start in (0..terms).step_by(EXACT_TERMS) {
                let end = (start + EXACT_TERMS).min(terms) as i32;
                let part_a = n.cut(left, last, start as i32, Some(end))?;
                let part_b = n.cut(right, before, start as i32, Some(end))?;
                let part = n.matmul(part_a, part_b, false, false)?;
                let part = n.cast(part, DType::Int32)?;
                sum = Some(match sum {
                    Some(sum) => n.add(sum, part)?,
                    None => part,
                });
            }
            sum.ok_or_else(|| Error::malformed("a product without terms"))?
        }
        None => {
            let (left, right) = (n.cast(left, DType::Int32)?, n.cast(right, DType::Int32)?);
            n.matmul(left, right, false, false)?
        }
    };
    let rank = n.rank(y)? as i32;
    if rank_b == 1 {
        y = n.squeeze(y, &[rank - 1])?;
    }
    if rank_a == 1 {
        y = n.squeeze(y, &[if rank_b == 1 { 0 } else { rank - 2 }])?;
    }
    Ok(y)
}

pub(super) fn matmul_integer(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (a, b) = (n.need(0)?, n.need(1)?);
    let (za, zb) = (n.opt(2)?, n.opt(3)?);
    let a = centered(n, a.id, za.map(|z| z.id), false)?;
    let b = centered(n, b.id, zb.map(|z| z.id), true)?;
    let y = exact_product(n, a, b)?;
    one(y, Elem::Int32)
}

pub(super) fn qlinear_matmul(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (a, sa, za) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let (b, sb, zb) = (n.need(3)?, n.need(4)?, n.need(5)?);
    let (sy, zy) = (n.need(6)?, n.need(7)?);
    let left = centered(n, a.id, Some(za.id), false)?;
    let right = centered(n, b.id, Some(zb.id), true)?;
    let sum = exact_product(n, left, right)?;
    let sum = n.float_of(sum)?;
    let row = |n: &mut Lowering, v: ValueId| -> Result<ValueId> {
        let v = n.float_of(v)?;
        match (
            n.rank(v)?,
            n.rank(v)
                .and_then(|r| if r == 1 { n.dim(v, 0) } else { Ok(milwright_mil::Dim::Unknown) })?
                .fixed(),
        ) {
            (1, Some(1)) => n.squeeze(v, &[0]),
            (1, _) => n.expand_dims(v, &[1]),
            _ => Ok(v),
        }
    };
    let sa = row(n, sa.id)?;
    let sb = n.float_of(sb.id)?;
    let sy = n.float_of(sy.id)?;
    let factor = n.mul(sa, sb)?;
    let factor = n.div(factor, sy)?;
    let scaled = n.mul(sum, factor)?;
    let (low, high) = zy.elem.int_range().ok_or_else(|| Error::malformed("codes that are no integers"))?;
    let y = codes_after(n, scaled, zy.id, low, high)?;
    one(y, zy.elem)
}

/// As `codes`, but the zero point is added before rounding: it is whole, so that only halves could tell.
fn codes_after(n: &mut Lowering, scaled: ValueId, zero: ValueId, low: i32, high: i32) -> Result<ValueId> {
    let zero = n.float_of(zero)?;
    let moved = n.add(scaled, zero)?;
    codes(n, moved, None, low, high)
}

pub(super) fn conv_integer(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (x, w) = (n.need(0)?, n.need(1)?);
    let (zx, zw) = (n.opt(2)?, n.opt(3)?);
    let y = exact_conv(n, x.id, w.id, zx.map(|z| z.id), zw.map(|z| z.id))?;
    one(y, Elem::Int32)
}

/// A convolution of codes less their zero points, as int32.
fn exact_conv(
    n: &mut Node<'_, '_>,
    x: ValueId,
    w: ValueId,
    zx: Option<ValueId>,
    zw: Option<ValueId>,
) -> Result<ValueId> {
    let rank = n.rank(x)?;
    let shape = n.need_shape(w, "the weight of a convolution of integers")?;
    let input = centered(n, x, zx, true)?;
    let zw = match zw {
        Some(zw) if n.rank(zw)? == 1 && n.dim(zw, 0)?.fixed() != Some(1) => {
            let axes: Vec<i32> = (1..rank as i32).collect();
            Some(n.expand_dims(zw, &axes)?)
        }
        zw => zw,
    };
    let weight = centered(n, w, zw, true)?;
    let kernel: Vec<i32> = shape.iter().skip(2).map(|&k| k as i32).collect();
    let window = Window::read(n, kernel)?;
    let groups = i32_from(n.int_or("group", 1)?.max(1));
    let taps: usize = shape.iter().skip(2).product();
    if shape[1] * taps <= EXACT_TERMS {
        let y = conv::convolve(n, input, weight, None, &window, groups)?;
        return n.cast(y, DType::Int32);
    }
    if groups != 1 || taps > EXACT_TERMS {
        return Err(Error::unsupported("a convolution of integers with so many terms in groups")
            .with_hint("dequantize its inputs: Core ML convolves real numbers"));
    }
    let step = EXACT_TERMS / taps;
    let mut sum: Option<ValueId> = None;
    for start in (0..shape[1]).step_by(step) {
        let end = (start + step).min(shape[1]) as i32;
        let part_x = n.cut(input, 1, start as i32, Some(end))?;
        let part_w = n.cut(weight, 1, start as i32, Some(end))?;
        let part = conv::convolve(n, part_x, part_w, None, &window, 1)?;
        let part = n.cast(part, DType::Int32)?;
        sum = Some(match sum {
            Some(sum) => n.add(sum, part)?,
            None => part,
        });
    }
    let _ = Pads::Amounts;
    sum.ok_or_else(|| Error::malformed("a convolution without channels"))
}

pub(super) fn qlinear_conv(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (x, sx, zx) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let (w, sw, zw) = (n.need(3)?, n.need(4)?, n.need(5)?);
    let (sy, zy) = (n.need(6)?, n.need(7)?);
    let bias = n.opt(8)?;
    let rank = n.rank(x.id)?;
    let mut sum = exact_conv(n, x.id, w.id, Some(zx.id), Some(zw.id))?;
    if let Some(bias) = bias {
        sum = conv::add_channels(n, sum, bias.id, rank)?;
    }
    let sum = n.float_of(sum)?;
    let mut sw = n.float_of(sw.id)?;
    if n.rank(sw)? == 1 {
        sw = if n.dim(sw, 0)?.fixed() == Some(1) {
            n.squeeze(sw, &[0])?
        } else {
            let axes: Vec<i32> = (1..=rank as i32 - 2).collect();
            n.expand_dims(sw, &axes)?
        };
    }
    let (sx, sy) = (n.float_of(sx.id)?, n.float_of(sy.id)?);
    let factor = n.mul(sx, sw)?;
    let factor = n.div(factor, sy)?;
    let scaled = n.mul(sum, factor)?;
    let (low, high) = zy.elem.int_range().ok_or_else(|| Error::malformed("codes that are no integers"))?;
    let y = codes(n, scaled, Some(zy.id), low, high)?;
    one(y, zy.elem)
}
