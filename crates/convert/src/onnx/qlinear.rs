//! Ops on codes: each computes with the real numbers that they stand for, and rounds its result to codes again.
//!
//! Constant weights stay codes. Sums of real numbers may differ from ONNX Runtime's sums of integers in the last place,
//! which shows where a result lies on the edge of two codes.

use milwright_mil::OpKind::*;
use milwright_mil::{Dim, ValueId};

use super::activation::{self, Soft};
use super::compose::{V, one};
use super::conv::{self, Window};
use super::elem::Elem;
use super::node::Node;
use super::quantize::{self, Kernel};
use super::{coded, layout, pool};
use crate::Error;
use crate::lower::{Result, i32_from, op};

/// The numbers of the inputs that have codes, their scale and their zero point.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub codes: usize,
    pub scale: usize,
    pub zero: usize,
}

/// Codes, scale and zero point one after the other.
fn at(codes: usize) -> At {
    At { codes, scale: codes + 1, zero: codes + 2 }
}

/// The real numbers of an operand.
pub(super) fn operand(n: &mut Node<'_, '_>, at: At) -> Result<ValueId> {
    if let Some(weight) = coded::inputs(n, at.codes, at.scale, at.zero, 0, 0)? {
        return weight.value(n);
    }
    let (x, scale, zero) = (n.need(at.codes)?, n.need(at.scale)?, n.opt(at.zero)?);
    let y = quantize::real(n, x, scale, zero, 0, 0)?;
    n.float_of(y)
}

/// The codes of a result, with the scale and the zero point at these inputs.
fn result(n: &mut Node<'_, '_>, y: ValueId, scale: usize, zero: usize, elem: Elem) -> Result<Vec<V>> {
    let (scale, zero) = (n.need(scale)?, n.opt(zero)?);
    let elem = zero.map_or(elem, |z| z.elem);
    let y = n.float_of(y)?;
    let scale = V { id: n.float_of(scale.id)?, elem: Elem::Float };
    let y = quantize::quantized(n, y, scale, zero, 0, 0, elem)?;
    one(y, elem)
}

/// Addition and multiplication.
pub(super) fn arithmetic(n: &mut Node<'_, '_>, kind: milwright_mil::OpKind) -> Result<Vec<V>> {
    let elem = n.elem(0)?;
    let (a, b) = (operand(n, at(0))?, operand(n, at(3))?);
    let y = n.bin(kind, a, b)?;
    result(n, y, 6, 7, elem)
}

/// A function of each element.
fn function(
    n: &mut Node<'_, '_>,
    apply: impl FnOnce(&mut Node<'_, '_>, ValueId) -> Result<ValueId>,
) -> Result<Vec<V>> {
    let elem = n.elem(0)?;
    let x = operand(n, at(0))?;
    let y = apply(n, x)?;
    result(n, y, 3, 4, elem)
}

pub(super) fn sigmoid(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    function(n, |n, x| n.un(Sigmoid, x))
}

pub(super) fn leaky_relu(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    function(n, |n, x| {
        let alpha = n.float_or("alpha", 0.01)?;
        activation::parametric(n, x, LeakyRelu, alpha.into(), None)
    })
}

pub(super) fn softmax(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    function(n, |n, x| {
        let (axis, opset) = (n.int_or("axis", -1)?, n.int_or("opset", 13)?);
        activation::softmax_of(n, x, axis, u32::try_from(opset).unwrap_or(13), Soft::Max)
    })
}

pub(super) fn reduce_mean(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    function(n, |n, x| {
        let rank = n.rank(x)?;
        let axes = match n.ints("axes")? {
            Some(axes) => axes.iter().map(|&a| n.axis(x, a)).collect::<Result<Vec<_>>>()?,
            None => (0..rank).collect(),
        };
        let keep = n.flag("keepdims", true)?;
        n.mean(x, &axes, keep)
    })
}

/// Applies a function that wants the channels second to a value that may have them last.
fn with_channels(
    n: &mut Node<'_, '_>,
    x: ValueId,
    apply: impl FnOnce(&mut Node<'_, '_>, ValueId) -> Result<ValueId>,
) -> Result<ValueId> {
    if !n.flag("channels_last", false)? {
        return apply(n, x);
    }
    let x = layout::channels_second(n, x)?;
    let y = apply(n, x)?;
    layout::channels_last(n, y)
}

pub(super) fn average_pool(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    function(n, |n, x| with_channels(n, x, pool::averaged))
}

pub(super) fn global_average_pool(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    function(n, |n, x| {
        with_channels(n, x, |n, x| {
            let axes: Vec<usize> = (2..n.rank(x)?).collect();
            n.mean(x, &axes, true)
        })
    })
}

/// The inputs are scale and zero point of the result, then codes, scale and zero point of each part.
pub(super) fn concat(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let count = n.inputs.len().saturating_sub(2);
    if count == 0 || !count.is_multiple_of(3) {
        return Err(Error::malformed(format!("{} inputs", n.inputs.len())));
    }
    let elem = n.elem(2)?;
    let mut parts = Vec::with_capacity(count / 3);
    for i in 0..count / 3 {
        parts.push(operand(n, at(2 + 3 * i))?);
    }
    let axis = n.axis_or("axis", 0, parts[0])?;
    let y = n.concat(parts, axis)?;
    result(n, y, 0, 1, elem)
}

pub(super) fn where_(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let elem = n.elem(1)?;
    let condition = n.value(0)?;
    let (a, b) = (operand(n, at(1))?, operand(n, at(4))?);
    let y = n.select(condition, a, b)?;
    result(n, y, 7, 8, elem)
}

/// The product of real numbers with a matrix of codes, which has one scale or one for each column.
fn product(n: &mut Node<'_, '_>, x: ValueId, b: At, transposed: bool) -> Result<ValueId> {
    let rank = n.val(b.codes)?.stored().map_or(2, |s| s.tensor.shape().len());
    let axis = if transposed { 0 } else { rank.saturating_sub(1) };
    let weight = coded::inputs(n, b.codes, b.scale, b.zero, axis as i64, 0)?;
    if let Some(weight) = weight.filter(|_| rank == 2)
        && n.rank(x)? >= 2
    {
        let weight = if transposed { weight } else { weight.transposed()? };
        let weight = weight.value(n)?;
        return op!(n, Linear, x = x, weight = weight);
    }
    let (codes, scale, zero) = (n.need(b.codes)?, n.need(b.scale)?, n.opt(b.zero)?);
    let rank = n.rank(codes.id)?;
    let axis = if transposed { 0 } else { rank.saturating_sub(1) };
    let right = quantize::real(n, codes, scale, zero, axis, 0)?;
    let right = n.float_of(right)?;
    if transposed { n.matmul(x, right, false, true) } else { super::linear::product(n, x, right) }
}

/// The real numbers of a left operand, whose scale may have an element for each row.
fn rows(n: &mut Node<'_, '_>, a: At) -> Result<ValueId> {
    let (x, scale, zero) = (n.need(a.codes)?, n.need(a.scale)?, n.opt(a.zero)?);
    let axis = n.rank(x.id)?.saturating_sub(2);
    let y = quantize::real(n, x, scale, zero, axis, 0)?;
    n.float_of(y)
}

pub(super) fn matmul(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    if n.stored(3).is_none() {
        return computed_matmul(n);
    }
    let elem = n.elem(0)?;
    let x = rows(n, at(0))?;
    let y = product(n, x, at(3), false)?;
    result(n, y, 6, 7, elem)
}

/// The product of codes that only a run knows: of integers, as the standard has it.
fn computed_matmul(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (a, sa, za) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let (b, sb, zb) = (n.need(3)?, n.need(4)?, n.need(5)?);
    let (sy, zy) = (n.need(6)?, n.need(7)?);
    let left = quantize::centered(n, a.id, Some(za.id), false)?;
    let right = quantize::centered(n, b.id, Some(zb.id), true)?;
    let sum = quantize::exact_product(n, left, right)?;
    let sum = n.float_of(sum)?;
    let mut sa = n.float_of(sa.id)?;
    if n.rank(sa)? == 1 {
        sa = match n.dim(sa, 0)? {
            Dim::Fixed(1) => n.squeeze(sa, &[0])?,
            _ => n.expand_dims(sa, &[1])?,
        };
    }
    let sb = n.float_of(sb.id)?;
    let sy = n.float_of(sy.id)?;
    let factor = n.mul(sa, sb)?;
    let factor = n.div(factor, sy)?;
    let scaled = n.mul(sum, factor)?;
    let (low, high) = zy.elem.int_range().ok_or_else(|| Error::malformed("codes that are no integers"))?;
    // The zero point is added before rounding: it is whole, so that only halves could tell.
    let zero = n.float_of(zy.id)?;
    let moved = n.add(scaled, zero)?;
    let y = quantize::codes(n, moved, None, low, high)?;
    one(y, zy.elem)
}

/// A bias of integers, whose scale is the product of those of the operands, as real numbers. `rank` is that of the result.
fn bias(n: &mut Node<'_, '_>, bias: usize, scales: [usize; 2], factor: f64) -> Result<ValueId> {
    let bias = n.value(bias)?;
    let bias = n.float_of(bias)?;
    let (a, b) = (n.value(scales[0])?, n.value(scales[1])?);
    let (a, b) = (n.float_of(a)?, n.float_of(b)?);
    let a = n.scalar(a)?;
    let b = if n.rank(b)? == 1 && n.dim(b, 0)? == Dim::Fixed(1) { n.squeeze(b, &[0])? } else { b };
    let scale = n.mul(a, b)?;
    let scale = if factor == 1.0 { scale } else { n.mul(scale, factor)? };
    n.mul(bias, scale)
}

/// The product of two matrices, plus a matrix of integers. Without a scale, the result is real.
pub(super) fn gemm(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let elem = n.elem(0)?;
    let alpha = f64::from(n.float_or("alpha", 1.0)?);
    let (trans_a, trans_b) = (n.flag("transA", false)?, n.flag("transB", false)?);
    let mut x = operand(n, at(0))?;
    if trans_a {
        x = n.transpose(x, &[1, 0])?;
    }
    let mut y = product(n, x, at(3), trans_b)?;
    if alpha != 1.0 {
        y = n.mul(y, alpha)?;
    }
    if n.has(6) {
        let bias = bias(n, 6, [1, 4], alpha)?;
        y = n.add(y, bias)?;
    }
    if n.has(7) { result(n, y, 7, 8, elem) } else { one(y, Elem::Float) }
}

/// A product of codes whose result is real.
pub(super) fn matmul_to_float(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let elem = n.elem(2)?;
    let x = rows(n, At { codes: 0, scale: 2, zero: 4 })?;
    let y = product(n, x, At { codes: 1, scale: 3, zero: 5 }, false)?;
    let y = match n.optional(6)? {
        Some(bias) => {
            let bias = n.float_of(bias)?;
            n.add(y, bias)?
        }
        None => y,
    };
    let y = n.cast(y, elem.carried()?)?;
    one(y, elem)
}

/// The same, with real numbers on the left that are rounded to 8 bits over their own range.
pub(super) fn dynamic_matmul(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.value(0)?;
    let x = quantize::rounded(n, x)?;
    let y = product(n, x, At { codes: 1, scale: 2, zero: 3 }, false)?;
    let y = match n.optional(4)? {
        Some(bias) => n.add(y, bias)?,
        None => y,
    };
    one(y, Elem::Float)
}

/// [batch, steps, columns] of codes times codes, plus a bias: the projections of quantized attention.
pub(super) fn projection(n: &mut Node<'_, '_>) -> Result<ValueId> {
    let x = operand(n, At { codes: 0, scale: 3, zero: 6 })?;
    let y = product(n, x, At { codes: 1, scale: 4, zero: 7 }, false)?;
    let bias = n.value(2)?;
    let bias = n.float_of(bias)?;
    n.add(y, bias)
}

pub(super) fn conv(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let elem = n.elem(0)?;
    let Some(weight) = coded::inputs(n, 3, 4, 5, 0, 0)? else { return computed_conv(n) };
    let x = operand(n, at(0))?;
    let kernel: Vec<i32> = weight.sizes().iter().skip(2).map(|&k| k as i32).collect();
    let mut window = Window::read(n, kernel)?;
    let groups = i32_from(n.int_or("group", 1)?.max(1));
    let bias = if n.has(8) { Some(bias(n, 8, [1, 4], 1.0)?) } else { None };
    let weight = weight.value(n)?;
    let y = with_channels(n, x, |n, x| {
        window.settle(n, x);
        conv::convolve(n, x, weight, bias, &window, groups)
    })?;
    result(n, y, 6, 7, elem)
}

/// A convolution with codes that only a run knows: of integers, as the standard has it.
fn computed_conv(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (x, sx, zx) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let sw = n.need(4)?;
    let (sy, zy) = (n.need(6)?, n.need(7)?);
    let bias = n.opt(8)?;
    if n.flag("channels_last", false)? {
        return Err(Error::unsupported("a weight that only a run knows, with the channels last").with_hint(
            "make the weight a constant of the model: `--freeze NAME=FILE` if it is an input of it",
        ));
    }
    let rank = n.rank(x.id)?;
    let kernel = Kernel::read(n, 3, 5)?;
    let mut sum = quantize::exact_conv(n, x.id, Some(zx.id), kernel)?;
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
    let y = quantize::codes(n, scaled, Some(zy.id), low, high)?;
    one(y, zy.elem)
}
