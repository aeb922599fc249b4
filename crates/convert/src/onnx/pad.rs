//! Padding.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, ValueId};

use super::compose::{V, one};
use super::node::Node;
use super::permute;
use crate::Error;
use crate::lower::{Lowering, Result, Size, i32_from, op};

/// What constant padding is filled with.
#[derive(Clone, Copy)]
pub(super) enum Fill {
    Number(f64),
    /// A scalar that is computed.
    Value(ValueId),
}

/// Amounts are attributes before version 11, then inputs; axes from 18 on. Negative amounts crop.
pub(super) fn pad(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let rank = n.rank(v.id)?;
    let mode = n.text_or("mode", "constant")?;
    if !matches!(mode, "constant" | "reflect" | "edge" | "wrap") {
        return Err(Error::malformed(format!("the mode `{mode}`")));
    }
    let (known, fill) = if n.opset < 11 {
        let name = if n.opset < 2 { "paddings" } else { "pads" };
        let pads = n.ints(name)?.ok_or_else(|| Error::malformed("the amounts are missing"))?;
        (Some(pads.to_vec()), Fill::Number(n.float_or("value", 0.0)?.into()))
    } else {
        let fill = match (n.has(2), n.known_scalar(2)) {
            (false, _) => Fill::Number(0.0),
            (true, Some(c)) => Fill::Number(c),
            (true, None) => {
                let value = n.value(2)?;
                Fill::Value(n.scalar(value)?)
            }
        };
        (n.known_ints(1), fill)
    };
    let axes = if n.has(3) { n.known_ints(3) } else { Some((0..rank as i64).collect()) };
    let (Some(pads), Some(axes)) = (known, axes) else {
        let (pads, axes) = (n.need(1)?.id, n.opt(3)?);
        let y = pad_by(n, v.id, pads, axes, mode, fill)?;
        return one(y, v.elem);
    };
    let axes = axes.iter().map(|&a| n.axis(v.id, a)).collect::<Result<Vec<_>>>()?;
    if pads.len() != 2 * axes.len() {
        return Err(Error::malformed(format!("{} amounts for {} dimensions", pads.len(), axes.len())));
    }
    let mut amounts = vec![(0i64, 0i64); rank];
    for (i, &axis) in axes.iter().enumerate() {
        amounts[axis] = (pads[i], pads[i + axes.len()]);
    }
    let y = known_pad(n, v.id, &mut amounts, mode, fill)?;
    one(y, v.elem)
}

fn known_pad(
    n: &mut Lowering,
    x: ValueId,
    amounts: &mut [(i64, i64)],
    mode: &str,
    fill: Fill,
) -> Result<ValueId> {
    let mut y = x;
    for (d, amount) in amounts.iter_mut().enumerate() {
        let (before, after) = *amount;
        if before < 0 || after < 0 {
            y = n.cut(y, d, i32_from((-before).max(0)), (after < 0).then_some(i32_from(after)))?;
            *amount = (before.max(0), after.max(0));
        }
    }
    let Some(first) = amounts.iter().position(|&a| a != (0, 0)) else { return Ok(y) };
    let rank = amounts.len();
    let dtype = n.dtype(y)?;
    // MIL pads floats; other modes than constant in the last two dimensions.
    let near = match mode {
        "constant" => rank <= 5 && matches!(fill, Fill::Number(_)),
        "reflect" => {
            rank - first <= 2
                && (first..rank).all(|d| {
                    let most = amounts[d].0.max(amounts[d].1);
                    n.dim(y, d).is_ok_and(|s| s.fixed().is_none_or(|s| most < s as i64))
                })
        }
        "edge" => rank - first <= 2,
        _ => false,
    };
    if dtype.is_float() && near {
        let flat: Vec<i32> = amounts[first..].iter().flat_map(|&(b, e)| [i32_from(b), i32_from(e)]).collect();
        let mode = if mode == "edge" { "replicate" } else { mode };
        let value = n.number(dtype, if let Fill::Number(c) = fill { c } else { 0.0 })?;
        return op!(n, Pad, x = y, pad = &flat[..], mode = mode, constant_val = value);
    }
    for (d, &(before, after)) in amounts.iter().enumerate().skip(first) {
        if (before, after) == (0, 0) {
            continue;
        }
        if mode == "constant" {
            y = constant_block(n, y, d, before, after, fill)?;
            continue;
        }
        let size = n.shape(&[Size::Of(y, d..d + 1)])?;
        let wanted = n.add(size, (before + after) as f64)?;
        let before = n.int_vector(&[i32_from(before)]);
        y = gathered(n, y, d, before, wanted, mode, fill)?;
    }
    Ok(y)
}

/// Adds blocks of one number before and after a dimension.
pub(super) fn constant_block(
    n: &mut Lowering,
    x: ValueId,
    axis: usize,
    before: i64,
    after: i64,
    fill: Fill,
) -> Result<ValueId> {
    let dtype = n.dtype(x)?;
    let mut parts = Vec::with_capacity(3);
    for (amount, first) in [(before, true), (after, false)] {
        if !first {
            parts.push(x);
        }
        if amount > 0 {
            let mut sizes = n.sizes_of(x)?;
            sizes[axis] = Size::Fixed(usize::try_from(amount).unwrap_or(0));
            parts.push(match fill {
                Fill::Number(c) => n.full(&sizes, c, dtype)?,
                Fill::Value(v) => {
                    let yes = n.full(&sizes, 1.0, DType::Bool)?;
                    n.select(yes, v, 0.0)?
                }
            });
        }
    }
    n.concat(parts, axis)
}

/// Takes `wanted` elements along a dimension, the first of them `before` places before the input's. Both are vectors of one
/// element, which may be computed.
pub(super) fn gathered(
    n: &mut Lowering,
    x: ValueId,
    axis: usize,
    before: ValueId,
    wanted: ValueId,
    mode: &str,
    fill: Fill,
) -> Result<ValueId> {
    let size = n.shape(&[Size::Of(x, axis..axis + 1)])?;
    let end = n.squeeze(wanted, &[0])?;
    let places = n.range(end)?;
    let places = n.sub(places, before)?;
    let last = n.sub(size, 1.0)?;
    let inside = match mode {
        "reflect" => {
            let period = n.mul(last, 2.0)?;
            let period = n.max(period, 1.0)?;
            let place = n.modulo(places, period)?;
            let place = n.sub(place, last)?;
            let place = n.un(Abs, place)?;
            n.sub(last, place)?
        }
        "wrap" => n.modulo(places, size)?,
        _ => {
            let low = n.max(places, 0.0)?;
            n.min(low, last)?
        }
    };
    let y = n.gather(x, inside, axis)?;
    if mode != "constant" {
        return Ok(y);
    }
    let kept = n.equal(inside, places)?;
    let rank = n.rank(x)?;
    let axes: Vec<i32> = (1..(rank - axis) as i32).collect();
    let kept = n.expand_dims(kept, &axes)?;
    match fill {
        Fill::Number(c) => n.select(kept, y, c),
        Fill::Value(v) => n.select(kept, y, v),
    }
}

/// Amounts that are computed.
fn pad_by(
    n: &mut Lowering,
    x: ValueId,
    pads: ValueId,
    axes: Option<V>,
    mode: &str,
    fill: Fill,
) -> Result<ValueId> {
    let rank = n.rank(x)?;
    let pads = n.as_vector(pads)?;
    let count = match axes {
        None => rank,
        Some(axes) => permute::axis_count(n, axes.id)?,
    };
    let hits = match axes {
        None => None,
        Some(axes) => {
            let axes = n.as_vector(axes.id)?;
            Some(n.modulo(axes, rank as f64)?)
        }
    };
    let before = n.cut(pads, 0, 0, Some(count as i32))?;
    let after = n.cut(pads, 0, count as i32, Some(2 * count as i32))?;
    let mut y = x;
    for d in 0..rank {
        let pick = |n: &mut Lowering, v: ValueId| match hits {
            None => n.cut(v, 0, d as i32, Some(d as i32 + 1)),
            Some(axes) => {
                let hit = n.equal(axes, d as f64)?;
                let hit = n.cast(hit, DType::Int32)?;
                let own = n.mul(v, hit)?;
                n.sum(own, &[0], true)
            }
        };
        let (b, e) = (pick(n, before)?, pick(n, after)?);
        let size = n.shape(&[Size::Of(x, d..d + 1)])?;
        let wanted = n.add(size, b)?;
        let wanted = n.add(wanted, e)?;
        y = gathered(n, y, d, b, wanted, mode, fill)?;
    }
    Ok(y)
}
