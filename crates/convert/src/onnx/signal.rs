//! Signals: Fourier transforms as products with matrices, windows, mel weights.

use std::f64::consts::PI;

use milwright_mil::OpKind::*;
use milwright_mil::{DType, ValueId};

use super::cast;
use super::compose::{V, one};
use super::elem::Elem;
use super::node::Node;
use super::permute::RunAxes;
use crate::Error;
use crate::lower::{Lowering, Result, Size, normalize};

/// A sum of cosines: a₀ - a₁ cos(2πi / N) + a₂ cos(4πi / N).
pub(super) fn window(n: &mut Node<'_, '_>, a: [f64; 3]) -> Result<Vec<V>> {
    let periodic = n.flag("periodic", true)?;
    let elem = cast::elem_of(n.int_or("output_datatype", 1)?)?;
    let size = n.value(0)?;
    let size = n.scalar(size)?;
    let places = n.range(size)?;
    let places = n.float_of(places)?;
    let length = n.float_of(size)?;
    let length = if periodic { length } else { n.sub(length, 1.0)? };
    let angle = n.mul(places, 2.0 * PI)?;
    let angle = n.div(angle, length)?;
    let once = n.un(Cos, angle)?;
    let once = n.mul(once, a[1])?;
    let mut y = n.sub(a[0], once)?;
    if a[2] != 0.0 {
        let twice = n.mul(angle, 2.0)?;
        let twice = n.un(Cos, twice)?;
        let twice = n.mul(twice, a[2])?;
        y = n.add(y, twice)?;
    }
    let y = n.cast(y, elem.carried()?)?;
    one(y, elem)
}

/// Cosines and sines of 2π·j·k / N for `rows` values of j and `columns` of k.
struct Waves {
    cos: ValueId,
    sin: ValueId,
}

/// A number of elements that is known, or a scalar that is computed.
#[derive(Clone, Copy)]
enum Count {
    Known(usize),
    Value(ValueId),
}

impl Count {
    fn of(n: &mut Lowering, size: &Size) -> Result<Count> {
        match n.known_size(size) {
            Some(size) => Ok(Count::Known(size)),
            None => Ok(Count::Value(n.size_value(size)?)),
        }
    }

    fn value(self, n: &mut Lowering) -> ValueId {
        match self {
            Count::Known(size) => n.constant(milwright_mil::Tensor::scalar(size as i32)),
            Count::Value(v) => v,
        }
    }

    /// ⌊N / 2⌋ + 1
    fn half(self, n: &mut Lowering) -> Result<Count> {
        Ok(match self {
            Count::Known(size) => Count::Known(size / 2 + 1),
            Count::Value(v) => {
                let half = n.floor_div(v, 2.0)?;
                Count::Value(n.add(half, 1.0)?)
            }
        })
    }
}

fn waves(n: &mut Lowering, rows: Count, columns: Count, length: Count, dtype: DType) -> Result<Waves> {
    if let (Count::Known(rows), Count::Known(columns), Count::Known(length)) = (rows, columns, length) {
        if rows.checked_mul(columns).is_none_or(|c| c > 1 << 26) {
            return Err(Error::unsupported(format!("a transform of {rows} elements"))
                .with_hint("it would be a product with a matrix of that size: transform shorter frames"));
        }
        let angle = |i: usize| 2.0 * PI * ((i / columns * (i % columns)) % length) as f64 / length as f64;
        let table = |f: fn(f64) -> f64| (0..rows * columns).map(|i| f(angle(i)) as f32).collect();
        let cos = n.float_tensor(&[rows, columns], table(f64::cos), dtype)?;
        let sin = n.float_tensor(&[rows, columns], table(f64::sin), dtype)?;
        return Ok(Waves { cos, sin });
    }
    let (rows, columns, length) = (rows.value(n), columns.value(n), length.value(n));
    let (j, k) = (n.range(rows)?, n.range(columns)?);
    let j = n.expand_dims(j, &[1])?;
    let turns = n.mul(j, k)?;
    // Whole turns make no difference, and what is left is folded into a quarter of a turn, so that parts that cancel
    // cancel exactly.
    let part = n.modulo(turns, length)?;
    let back = n.sub(length, part)?;
    let folded = n.min(part, back)?;
    let up = n.mul(folded, 2.0)?;
    let down = n.sub(length, up)?;
    let least = n.min(up, down)?;
    let (least, whole) = (n.float_of(least)?, n.float_of(length)?);
    let angle = n.mul(least, PI)?;
    let angle = n.div(angle, whole)?;
    let (cos, sin) = (n.un(Cos, angle)?, n.un(Sin, angle)?);
    let negative = n.neg(cos)?;
    let second = n.greater(up, down)?;
    let cos = n.select(second, negative, cos)?;
    let quarter = n.equal(up, down)?;
    let cos = n.select(quarter, 0.0, cos)?;
    let negative = n.neg(sin)?;
    let later = n.greater(part, back)?;
    let sin = n.select(later, negative, sin)?;
    Ok(Waves { cos: n.cast(cos, dtype)?, sin: n.cast(sin, dtype)? })
}

/// The transform of rows, real or complex, along their last dimension.
fn transform(
    n: &mut Lowering,
    re: ValueId,
    im: Option<ValueId>,
    w: &Waves,
    inverse: bool,
) -> Result<(ValueId, ValueId)> {
    // e^(∓ia) = cos a ∓ i sin a
    let rc = n.matmul(re, w.cos, false, false)?;
    let rs = n.matmul(re, w.sin, false, false)?;
    let Some(im) = im else {
        let rs = if inverse { rs } else { n.neg(rs)? };
        return Ok((rc, rs));
    };
    let ic = n.matmul(im, w.cos, false, false)?;
    let is = n.matmul(im, w.sin, false, false)?;
    if inverse { Ok((n.sub(rc, is)?, n.add(ic, rs)?)) } else { Ok((n.add(rc, is)?, n.sub(ic, rs)?)) }
}

/// The axis is an attribute before version 20, then an input.
pub(super) fn dft(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let rank = n.rank(x.id)?;
    if rank < 2 {
        return Err(Error::malformed("a signal without a dimension for real and imaginary parts"));
    }
    let inverse = n.flag("inverse", false)?;
    let onesided = n.flag("onesided", false)?;
    let dtype = n.dtype(x.id)?;
    let complex = match n.size(x.id, rank - 1)? {
        1 => false,
        2 => true,
        other => return Err(Error::malformed(format!("{other} parts of a complex number"))),
    };
    let axis = if n.opset < 20 {
        Some(n.int_or("axis", 1)?)
    } else if n.has(2) {
        n.known_scalar(2).map(|a| a as i64)
    } else {
        Some(-2)
    };
    let re = n.take_one(x.id, rank - 1, 0)?;
    let im = if complex { Some(n.take_one(x.id, rank - 1, 1)?) } else { None };
    let given = match (n.has(1), n.known_scalar(1)) {
        (false, _) => None,
        (true, Some(length)) => Some(Count::Known(length as usize)),
        (true, None) => {
            let length = n.value(1)?;
            Some(Count::Value(n.scalar(length)?))
        }
    };
    let real_result = inverse && onesided;
    let Some(axis) = axis else {
        // The axis is computed: bring it to the end and back.
        if given.is_some() {
            return Err(Error::unsupported("a transform whose axis is computed and whose length is given")
                .with_hint("make the axis a constant of the model"));
        }
        let axis = n.value(2)?;
        let axis = n.modulo(axis, rank as f64)?;
        let order = RunAxes::new(n, re, axis)?;
        let rows_re = order.rows(n, re)?;
        let rows_im = match im {
            Some(im) => Some(order.rows(n, im)?),
            None => None,
        };
        let have = Count::Value(n.size_value(&Size::Of(rows_re, 1..2))?);
        let (yr, yi, count) = along(n, rows_re, rows_im, have, None, inverse, onesided, dtype)?;
        let count = count.value(n);
        let hit = n.equal(order.named, 1.0)?;
        let shape = n.select(hit, count, order.shape)?;
        let back = RunAxes { named: order.named, shape, order: order.order, rank: order.rank };
        let yr = back.restore(n, yr)?;
        let yr = n.expand_dims(yr, &[rank as i32 - 1])?;
        let y = if real_result {
            yr
        } else {
            let yi = back.restore(n, yi)?;
            let yi = n.expand_dims(yi, &[rank as i32 - 1])?;
            n.concat(vec![yr, yi], rank - 1)?
        };
        return cast::finish(n, y, x.elem);
    };
    let axis = normalize(axis, rank)?;
    if axis == rank - 1 {
        return Err(Error::malformed("a transform along real and imaginary parts"));
    }
    let mut order: Vec<usize> = (0..rank - 1).filter(|&d| d != axis).collect();
    order.push(axis);
    let back: Vec<usize> =
        (0..rank - 1).map(|d| order.iter().position(|&o| o == d).expect("a permutation")).collect();
    let re = n.transpose(re, &order)?;
    let im = match im {
        Some(im) => Some(n.transpose(im, &order)?),
        None => None,
    };
    let have = Count::of(n, &Size::Of(x.id, axis..axis + 1))?;
    let (yr, yi, _) = along(n, re, im, have, given, inverse, onesided, dtype)?;
    let finish = |n: &mut Lowering, y: ValueId| {
        let y = n.transpose(y, &back)?;
        n.expand_dims(y, &[rank as i32 - 1])
    };
    let yr = finish(n, yr)?;
    let y = if real_result {
        yr
    } else {
        let yi = finish(n, yi)?;
        n.concat(vec![yr, yi], rank - 1)?
    };
    cast::finish(n, y, x.elem)
}

/// Transforms along the last dimension, which has `have` elements. Returns real and imaginary parts, and how many there are.
#[expect(clippy::too_many_arguments, reason = "the parameters of the op")]
fn along(
    n: &mut Lowering,
    re: ValueId,
    im: Option<ValueId>,
    have: Count,
    given: Option<Count>,
    inverse: bool,
    onesided: bool,
    dtype: DType,
) -> Result<(ValueId, ValueId, Count)> {
    let last = n.rank(re)? - 1;
    if inverse && onesided {
        // Half a spectrum gives a real signal: all but the first and the middle part count twice.
        let Some(im) = im else { return Err(Error::malformed("a spectrum without imaginary parts")) };
        let length = match (given, have) {
            (Some(length), _) => length,
            (None, Count::Known(have)) => Count::Known(2 * have.saturating_sub(1)),
            (None, Count::Value(have)) => {
                let less = n.sub(have, 1.0)?;
                Count::Value(n.mul(less, 2.0)?)
            }
        };
        let parts = length.half(n)?;
        if let (Count::Known(parts), Count::Known(have)) = (parts, have)
            && parts > have
        {
            return Err(Error::unsupported("a one-sided inverse transform that is longer than its spectrum")
                .with_hint("pad the spectrum with zeros"));
        }
        let cut = |n: &mut Lowering, v: ValueId| match (parts, have) {
            (Count::Known(parts), Count::Known(have)) if parts < have => {
                n.cut(v, last, 0, Some(parts as i32))
            }
            _ => Ok(v),
        };
        let (re, im) = (cut(n, re)?, cut(n, im)?);
        let w = waves(n, parts, length, length, dtype)?;
        let (count, whole) = (parts.value(n), length.value(n));
        let places = n.range(count)?;
        let mirrored = n.sub(whole, places)?;
        let first = n.equal(places, 0.0)?;
        let middle = n.equal(places, mirrored)?;
        let single = n.or(first, middle)?;
        let weight = n.select_as(single, 1.0, 2.0, dtype)?;
        let (re, im) = (n.mul(re, weight)?, n.mul(im, weight)?);
        let (yr, _) = transform(n, re, Some(im), &w, true)?;
        let scale = n.cast(whole, dtype)?;
        let y = n.div(yr, scale)?;
        return Ok((y, y, length));
    }
    let length = given.unwrap_or(have);
    // A longer transform pads with zeros, which add nothing; a shorter one drops the rest.
    let rows = match (length, have) {
        (Count::Known(length), Count::Known(have)) => Count::Known(length.min(have)),
        _ if given.is_none() => have,
        (length, have) => {
            let (length, have) = (length.value(n), have.value(n));
            Count::Value(n.min(length, have)?)
        }
    };
    let cut = |n: &mut Lowering, v: ValueId| match (rows, have) {
        (Count::Known(rows), Count::Known(have)) if rows == have => Ok(v),
        (Count::Known(rows), _) => n.cut(v, last, 0, Some(rows as i32)),
        (Count::Value(_), _) if given.is_none() => Ok(v),
        (Count::Value(rows), _) => {
            let places = n.range(rows)?;
            n.gather(v, places, last)
        }
    };
    let re = cut(n, re)?;
    let im = match im {
        Some(im) => Some(cut(n, im)?),
        None => None,
    };
    let columns = if onesided { length.half(n)? } else { length };
    let w = waves(n, rows, columns, length, dtype)?;
    let (mut yr, mut yi) = transform(n, re, im, &w, inverse)?;
    if inverse {
        let scale = length.value(n);
        let scale = n.cast(scale, dtype)?;
        yr = n.div(yr, scale)?;
        yi = n.div(yi, scale)?;
    }
    Ok((yr, yi, columns))
}

/// Transforms of frames of a signal.
pub(super) fn stft(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let mut x = n.need(0)?;
    let onesided = n.flag("onesided", true)?;
    let dtype = n.dtype(x.id)?;
    // Exporters leave out the last dimension of a real signal, as ONNX Runtime lets them.
    if n.rank(x.id)? == 2 {
        x.id = n.expand_dims(x.id, &[2])?;
    }
    if n.rank(x.id)? != 3 {
        return Err(Error::malformed("a signal that is not [batch, length, parts]"));
    }
    let complex = n.size(x.id, 2)? == 2;
    let window = n.opt(2)?.map(|w| w.id);
    let length = match (n.has(3), n.known_scalar(3), window) {
        (true, Some(length), _) => Count::Known(length as usize),
        (true, None, _) => {
            let length = n.value(3)?;
            Count::Value(n.scalar(length)?)
        }
        (false, _, Some(window)) => Count::of(n, &Size::Of(window, 0..1))?,
        (false, _, None) => Count::of(n, &Size::Of(x.id, 1..2))?,
    };
    let step = n.value(1)?;
    let step = n.scalar(step)?;
    // ⌊(L - length) / step⌋ + 1 frames.
    let whole = n.size_value(&Size::Of(x.id, 1..2))?;
    let frame = length.value(n);
    let reach = n.sub(whole, frame)?;
    let frames = n.floor_div(reach, step)?;
    let frames = n.add(frames, 1.0)?;
    let starts = n.range(frames)?;
    let starts = n.mul(starts, step)?;
    let starts = n.expand_dims(starts, &[1])?;
    let inside = n.range(frame)?;
    let places = n.add(starts, inside)?;
    let part = |n: &mut Lowering, index: i32| -> Result<ValueId> {
        let part = n.take_one(x.id, 2, index)?;
        let framed = n.gather(part, places, 1)?;
        match window {
            Some(window) => n.mul(framed, window),
            None => Ok(framed),
        }
    };
    let re = part(n, 0)?;
    let im = if complex { Some(part(n, 1)?) } else { None };
    let columns = if onesided && !complex { length.half(n)? } else { length };
    let w = waves(n, length, columns, length, dtype)?;
    let (yr, yi) = transform(n, re, im, &w, false)?;
    let (yr, yi) = (n.expand_dims(yr, &[3])?, n.expand_dims(yi, &[3])?);
    let y = n.concat(vec![yr, yi], 3)?;
    cast::finish(n, y, x.elem)
}

/// Triangles that overlap by half, of equal width on the mel scale: [⌊length / 2⌋ + 1, bins].
pub(super) fn mel_weights(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let elem = cast::elem_of(n.int_or("output_datatype", 1)?)?;
    let scalar = |n: &mut Node<'_, '_>, i: usize| -> Result<ValueId> {
        let v = n.value(i)?;
        n.scalar(v)
    };
    let (bins, length, rate) = (scalar(n, 0)?, scalar(n, 1)?, scalar(n, 2)?);
    let (low, high) = (scalar(n, 3)?, scalar(n, 4)?);
    let (low, high) = (n.float_of(low)?, n.float_of(high)?);
    // mel(f) = 2595 log₁₀(1 + f / 700)
    let mel = |n: &mut Lowering, f: ValueId| {
        let ratio = n.div(f, 700.0)?;
        let sum = n.add(ratio, 1.0)?;
        let log = n.log(sum)?;
        n.mul(log, 2595.0 / std::f64::consts::LN_10)
    };
    let (from, to) = (mel(n, low)?, mel(n, high)?);
    let edges = n.add(bins, 2.0)?;
    let places = n.range(edges)?;
    let places = n.float_of(places)?;
    let count = n.float_of(edges)?;
    let width = n.sub(to, from)?;
    let step = n.div(width, count)?;
    let along = n.mul(places, step)?;
    let along = n.add(along, from)?;
    let exponent = n.mul(along, std::f64::consts::LN_10 / 2595.0)?;
    let power = n.un(Exp, exponent)?;
    let hertz = n.sub(power, 1.0)?;
    let hertz = n.mul(hertz, 700.0)?;
    // The bin of the spectrum below each edge.
    let more = n.add(length, 1.0)?;
    let more = n.float_of(more)?;
    let rate = n.float_of(rate)?;
    let edge = n.mul(hertz, more)?;
    let edge = n.div(edge, rate)?;
    let edge = n.un(Floor, edge)?;
    let (lower, center, upper) =
        (n.cut(edge, 0, 0, Some(-2))?, n.cut(edge, 0, 1, Some(-1))?, n.cut(edge, 0, 2, None)?);
    let half = n.floor_div(length, 2.0)?;
    let half = n.add(half, 1.0)?;
    let rows = n.range(half)?;
    let rows = n.float_of(rows)?;
    let rows = n.expand_dims(rows, &[1])?;
    // Up from the lower edge to the center, which is included, then down to the upper one.
    let rise = n.sub(center, lower)?;
    let flat = n.equal(rise, 0.0)?;
    let rise = n.select(flat, 1.0, rise)?;
    let ahead = n.sub(rows, lower)?;
    let up = n.div(ahead, rise)?;
    let up = n.select(flat, 1.0, up)?;
    let fall = n.sub(upper, center)?;
    let none = n.equal(fall, 0.0)?;
    let fall = n.select(none, 1.0, fall)?;
    let left = n.sub(upper, rows)?;
    let down = n.div(left, fall)?;
    let (after, before) = (n.greater_equal(rows, lower)?, n.less_equal(rows, center)?);
    let rising = n.and(after, before)?;
    let (after, before) = (n.greater_equal(rows, center)?, n.less(rows, upper)?);
    let falling = n.and(after, before)?;
    let y = n.select(rising, up, 0.0)?;
    let y = n.select(falling, down, y)?;
    let y = n.cast(y, elem.carried()?)?;
    let _ = Elem::Float;
    one(y, elem)
}
