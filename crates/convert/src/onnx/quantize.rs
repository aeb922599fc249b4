//! Quantization: weights stay compressed, activations are computed with.

use milwright_mil::OpKind::*;
use milwright_mil::{Arg, DType, Opset, Tensor, ValueId, param};

use super::coded::{Coded, Scales};
use super::compose::{V, one};
use super::conv::{self, Window};
use super::elem::Elem;
use super::graph::Importer;
use super::item::Val;
use super::node::Node;
use super::stored::Stored;
use super::{cast, coded};
use crate::Error;
use crate::lower::{Lowering, Result, Size, i32_from, op, tensor_of};

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
    // A weight stays as small as it is.
    let axis = n.int_or("axis", 1)?;
    let y = match coded::inputs(n, 0, 1, 2, axis, block)? {
        Some(weight) => weight.value(n)?,
        None => {
            let x = n.need(0)?;
            let zero = n.opt(2)?;
            let axis = axis_of(n, x.id)?;
            real(n, x, scale, zero, axis, block)?
        }
    };
    let y = n.cast(y, elem.carried()?)?;
    cast::finish(n, y, elem)
}

/// (codes - zero point) · scale.
pub(super) fn real(
    n: &mut Lowering,
    x: V,
    scale: V,
    zero: Option<V>,
    axis: usize,
    block: usize,
) -> Result<ValueId> {
    if block == 0
        && let Some(codes) = bytes_of(n, x)
        && let Some((scale, zero, axis)) = parameters(n, scale.id, zero.map(|z| z.id), x.elem, axis)?
    {
        return match axis {
            None => op!(n, Dequantize, input = codes, zero_point = zero, scale = scale),
            Some(axis) => {
                op!(n, Dequantize, input = codes, zero_point = zero, scale = scale, axis = axis as i32)
            }
        };
    }
    let rank = n.rank(x.id)?;
    let size = if rank == 0 { Size::Fixed(1) } else { Size::Of(x.id, axis..axis + 1) };
    let mut codes = x.id;
    if let Some(zero) = zero {
        let zero = spread(n, zero.id, rank, axis, block, size.clone())?;
        codes = n.sub(codes, zero)?;
    }
    let codes = n.float_of(codes)?;
    let factor = n.float_of(scale.id)?;
    let factor = spread(n, factor, rank, axis, block, size)?;
    n.mul(codes, factor)
}

/// The 8-bit value of which the codes, carried as int32, are a cast.
fn bytes_of(n: &Lowering, codes: V) -> Option<ValueId> {
    let op = n.builder.defining_op(codes.id).filter(|op| op.kind == Cast)?;
    let narrow = op.inputs.iter().find(|input| input.name == param!(Cast.x))?;
    let &[Arg::Value(value)] = &narrow.args[..] else { return None };
    let own = match codes.elem {
        Elem::Int8 => DType::Int8,
        Elem::Uint8 => DType::UInt8,
        _ => return None,
    };
    n.builder.tensor_type(value).is_some_and(|ty| ty.dtype == own).then_some(value)
}

/// Scale, zero point and axis as MIL's `quantize` and `dequantize` take them: known, and scalars or vectors.
fn parameters(
    n: &Lowering,
    scale: ValueId,
    zero: Option<ValueId>,
    elem: Elem,
    axis: usize,
) -> Result<Option<(Tensor, Tensor, Option<usize>)>> {
    let Some(scale) = n.builder.known(scale).filter(|s| s.dtype().is_float() && s.shape().len() <= 1) else {
        return Ok(None);
    };
    let zeros = match zero.map(|z| n.known_integers(z)) {
        None => vec![0; scale.elements()],
        Some(Some(zeros)) if zeros.len() == scale.elements() => zeros,
        Some(_) => return Ok(None),
    };
    let single = scale.elements() == 1;
    let shape: &[usize] = if single { &[] } else { scale.shape() };
    let scale = scale.reshaped(shape).map_err(|e| Error::malformed(e.to_string()))?;
    let zero = match elem {
        Elem::Int8 => tensor_of(shape, zeros.iter().map(|&z| z as i8).collect())?,
        _ => tensor_of(shape, zeros.iter().map(|&z| z as u8).collect())?,
    };
    Ok(Some((scale, zero, (!single).then_some(axis))))
}

pub(super) fn quantize(n: &mut Node<'_, '_>) -> Result<Vec<Val>> {
    let (scale, zero) = (n.need(1)?, n.opt(2)?);
    let block = usize::try_from(n.int_or("block_size", 0)?).unwrap_or(0);
    let saturate = n.flag("saturate", true)?;
    let elem = match (n.int_or("output_dtype", 0)?, zero) {
        (0, Some(zero)) => zero.elem,
        (0, None) => Elem::Uint8,
        (code, _) => cast::elem_of(code)?,
    };
    let precision = match n.int_or("precision", 0)? {
        0 => None,
        code => Some(cast::elem_of(code)?.carried()?),
    };
    if precision.is_none()
        && let Some(weight) = quantized_weight(n, elem, block)?
    {
        return Ok(vec![weight]);
    }
    let x = n.need(0)?;
    let axis = axis_of(n, x.id)?;
    let rank = n.rank(x.id)?;
    // Division happens in the type of the input, unless another precision is asked for.
    let dtype = match (precision, n.dtype(x.id)?) {
        (Some(dtype), _) => dtype,
        (None, DType::Fp16) => DType::Fp16,
        (None, _) => DType::Fp32,
    };
    let input = n.cast(x.id, dtype)?;
    let scale = V { id: n.cast(scale.id, dtype)?, elem: scale.elem };
    if elem.int_range().is_some() {
        let y = quantized(n, input, scale, zero, axis, block, elem)?;
        return Ok(vec![Val::new(elem, y)]);
    }
    if elem.is_int() {
        return Err(Error::malformed(format!("quantization to {}", elem.name())));
    }
    let size = if rank == 0 { Size::Fixed(1) } else { Size::Of(x.id, axis..axis + 1) };
    let factor = spread(n, scale.id, rank, axis, block, size)?;
    let ratio = n.div(input, factor)?;
    let ratio = n.float_of(ratio)?;
    let y = cast::to_elem(n, V { id: ratio, elem: Elem::Float }, elem, saturate, "up")?;
    Ok(vec![Val::new(elem, y)])
}

/// The codes of integers of at most 16 bits, as int32.
pub(super) fn quantized(
    n: &mut Importer<'_>,
    x: ValueId,
    scale: V,
    zero: Option<V>,
    axis: usize,
    block: usize,
    elem: Elem,
) -> Result<ValueId> {
    let name = match elem {
        Elem::Int8 => Some("int8"),
        Elem::Uint8 => Some("uint8"),
        _ => None,
    };
    if block == 0
        && let Some(name) = name
        && n.dtype(x)? == n.dtype(scale.id)?
        && let Some((scale, zero, axis)) = parameters(n, scale.id, zero.map(|z| z.id), elem, axis)?
        && n.prefers(Opset::Ios17)
    {
        let y = match axis {
            None => op!(n, Quantize, input = x, zero_point = zero, scale = scale, output_dtype = name)?,
            Some(axis) => op!(
                n,
                Quantize,
                input = x,
                zero_point = zero,
                scale = scale,
                axis = axis as i32,
                output_dtype = name
            )?,
        };
        return n.cast(y, DType::Int32);
    }
    let (low, high) =
        elem.int_range().ok_or_else(|| Error::malformed(format!("quantization to {}", elem.name())))?;
    let rank = n.rank(x)?;
    let size = if rank == 0 { Size::Fixed(1) } else { Size::Of(x, axis..axis + 1) };
    let factor = spread(n, scale.id, rank, axis, block, size.clone())?;
    let ratio = n.div(x, factor)?;
    let zero = match zero {
        Some(zero) => Some(spread(n, zero.id, rank, axis, block, size)?),
        None => None,
    };
    codes(n, ratio, zero, low, high)
}

/// The codes of a constant of the file, as a constant.
fn quantized_weight(n: &mut Node<'_, '_>, elem: Elem, block: usize) -> Result<Option<Val>> {
    let dtype = match elem {
        Elem::Int8 => DType::Int8,
        Elem::Uint8 => DType::UInt8,
        Elem::Int4 => DType::Int4,
        Elem::Uint4 => DType::UInt4,
        Elem::Int16 => DType::Int16,
        Elem::Uint16 => DType::UInt16,
        _ => return Ok(None),
    };
    let Some(stored) = n.stored(0).filter(|s| s.elem == Elem::Float).cloned() else { return Ok(None) };
    let (Some((low, high)), Some(scales)) = (elem.int_range(), n.known(1)) else { return Ok(None) };
    let zero = match (n.has(2), n.known_numbers(2)) {
        (false, _) => Vec::new(),
        (true, Some(zero)) => zero,
        (true, None) => return Ok(None),
    };
    let (axis, shape) = (n.int_or("axis", 1)?, scales.shape().to_vec());
    let scales = Scales { shape, scale: scales.to_f64(), zero, axis, block, dtype: DType::Fp32 };
    let Some(codes) = coded::encode(&stored, scales, low, high)? else { return Ok(None) };
    let bytes: Vec<u8> = match dtype.bits() {
        16 => codes.iter().flat_map(|c| (*c as u16).to_le_bytes()).collect(),
        8 => codes.iter().map(|&c| c as u8).collect(),
        bits => milwright_mil::pack_bits(&codes.iter().map(|&c| c as u8).collect::<Vec<_>>(), bits),
    };
    let tensor = Tensor::from_bytes(dtype, stored.tensor.shape(), bytes.into());
    let tensor = tensor.map_err(|e| Error::malformed(e.to_string()))?;
    let name = format!("{}_codes", n.label);
    Ok(Some(Val::constant(name, Stored::new(elem, tensor))))
}

/// The nearest code, halves to even, moved by the zero point and into the range of codes.
pub(super) fn codes(
    n: &mut Lowering,
    ratio: ValueId,
    zero: Option<ValueId>,
    low: i32,
    high: i32,
) -> Result<ValueId> {
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

/// Rounds a tensor to 8 bits over its own range, as `dynamic` does, and back.
pub(super) fn rounded(n: &mut Lowering, x: ValueId) -> Result<ValueId> {
    let (codes, scale, zero) = dynamic(n, x)?;
    let codes = n.sub(codes, zero)?;
    let codes = n.float_of(codes)?;
    n.mul(codes, scale)
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
    let (a, za) = (n.need(0)?, n.opt(2)?);
    let left = centered(n, a.id, za.map(|z| z.id), false)?;
    if let Some(weight) = centered_weight(n, 1, 3, 1)?.filter(|w| w.sizes().len() == 2)
        && n.rank(left)? >= 2
    {
        let y = exact_linear(n, left, &weight.transposed()?)?;
        return one(y, Elem::Int32);
    }
    let (b, zb) = (n.need(1)?, n.opt(3)?);
    let right = centered(n, b.id, zb.map(|z| z.id), true)?;
    let y = exact_product(n, left, right)?;
    one(y, Elem::Int32)
}

/// The constant codes at an input less their zero point, one for each index of the axis.
pub(super) fn centered_weight(
    n: &Node<'_, '_>,
    codes: usize,
    zero: usize,
    axis: i64,
) -> Result<Option<Coded>> {
    let Some(stored) = n.stored(codes).filter(|s| matches!(s.elem, Elem::Int8 | Elem::Uint8)) else {
        return Ok(None);
    };
    let zero = match (n.has(zero), n.known_numbers(zero)) {
        (false, _) => vec![0.0],
        (true, Some(zero)) => zero,
        (true, None) => return Ok(None),
    };
    let (shape, scale) = (vec![zero.len()], vec![1.0; zero.len()]);
    let scales = Scales { shape, scale, zero, axis, block: 0, dtype: DType::Fp32 };
    Coded::new(stored, scales)
}

/// The exact product of integers with a constant weight of as many columns, as int32.
fn exact_linear(n: &mut Importer<'_>, x: ValueId, weight: &Coded) -> Result<ValueId> {
    let (last, terms) = (n.rank(x)? - 1, weight.sizes()[1]);
    let mut sum: Option<ValueId> = None;
    for start in (0..terms).step_by(EXACT_TERMS) {
        let end = (start + EXACT_TERMS).min(terms);
        let whole = end - start == terms;
        let part = if whole { x } else { n.cut(x, last, start as i32, Some(end as i32))? };
        let weight = weight.cut(1, start..end)?.value(n)?;
        let part = op!(n, Linear, x = part, weight = weight)?;
        let part = n.cast(part, DType::Int32)?;
        sum = Some(match sum {
            Some(sum) => n.add(sum, part)?,
            None => part,
        });
    }
    sum.ok_or_else(|| Error::malformed("a product without terms"))
}

/// The weight of a convolution of integers.
pub(super) enum Kernel {
    /// Its codes less their zero points.
    Constant(Coded),
    /// Codes and zero points.
    Computed(ValueId, Option<ValueId>),
}

impl Kernel {
    /// The weight at an input, with its zero points at another.
    pub fn read(n: &mut Node<'_, '_>, codes: usize, zero: usize) -> Result<Kernel> {
        Ok(match centered_weight(n, codes, zero, 0)? {
            Some(constant) => Kernel::Constant(constant),
            None => Kernel::Computed(n.value(codes)?, n.optional(zero)?),
        })
    }
}

pub(super) fn conv_integer(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (x, zx) = (n.need(0)?, n.opt(2)?);
    let kernel = Kernel::read(n, 1, 3)?;
    let y = exact_conv(n, x.id, zx.map(|z| z.id), kernel)?;
    one(y, Elem::Int32)
}

/// A convolution of codes less their zero points, as int32.
pub(super) fn exact_conv(
    n: &mut Node<'_, '_>,
    x: ValueId,
    zx: Option<ValueId>,
    kernel: Kernel,
) -> Result<ValueId> {
    let rank = n.rank(x)?;
    let input = centered(n, x, zx, true)?;
    let (shape, kernel) = match kernel {
        Kernel::Constant(codes) => (codes.sizes().to_vec(), Ok(codes)),
        Kernel::Computed(codes, zero) => {
            let shape = n.need_shape(codes, "the weight of a convolution of integers")?;
            let zero = match zero {
                Some(zero) if n.rank(zero)? == 1 && n.dim(zero, 0)?.fixed() != Some(1) => {
                    let axes: Vec<i32> = (1..rank as i32).collect();
                    Some(n.expand_dims(zero, &axes)?)
                }
                zero => zero,
            };
            (shape, Err(centered(n, codes, zero, true)?))
        }
    };
    if shape.len() < 3 {
        return Err(Error::malformed("a convolution of vectors"));
    }
    // The weight of some of the input's channels.
    let part = |n: &mut Importer<'_>, start: usize, end: usize| match &kernel {
        Ok(codes) => codes.cut(1, start..end)?.value(n),
        Err(weight) if (start, end) == (0, shape[1]) => Ok(*weight),
        Err(weight) => n.cut(*weight, 1, start as i32, Some(end as i32)),
    };
    let sizes: Vec<i32> = shape.iter().skip(2).map(|&k| k as i32).collect();
    let window = Window::read(n, sizes)?;
    let groups = i32_from(n.int_or("group", 1)?.max(1));
    let taps: usize = shape.iter().skip(2).product();
    if shape[1] * taps <= EXACT_TERMS {
        let weight = part(n, 0, shape[1])?;
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
        let end = (start + step).min(shape[1]);
        let part_x = n.cut(input, 1, start as i32, Some(end as i32))?;
        let part_w = part(n, start, end)?;
        let product = conv::convolve(n, part_x, part_w, None, &window, 1)?;
        let product = n.cast(product, DType::Int32)?;
        sum = Some(match sum {
            Some(sum) => n.add(sum, product)?,
            None => product,
        });
    }
    sum.ok_or_else(|| Error::malformed("a convolution without channels"))
}
