//! Changes of shape whose parameters only a run knows, and blocks of images.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, ValueId};

use super::compose::{V, one};
use super::item::Item;
use super::node::{Node, Results};
use super::permute::{axis_count, squeezed_shape, unsqueezed_shape};
use crate::Error;
use crate::lower::{Lowering, Result, Size, i32_from, normalize, op};

/// Lowers with the first function, or with the second if one of the inputs is known only at run time.
fn either<A: Results, B: Results>(
    n: &mut Node<'_, '_>,
    inputs: &[usize],
    known: fn(&mut Node<'_, '_>) -> Result<A>,
    computed: fn(&mut Node<'_, '_>) -> Result<B>,
) -> Result<Vec<Item>> {
    if inputs.iter().any(|&i| n.has(i) && n.known_ints(i).is_none()) {
        return computed(n)?.items(n);
    }
    known(n)?.items(n)
}

pub(super) fn squeeze_any(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    either(n, &[1], super::shape::squeeze, squeeze)
}

pub(super) fn unsqueeze_any(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    either(n, &[1], super::shape::unsqueeze, unsqueeze)
}

pub(super) fn slice_any(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    either(n, &[3, 4], super::slice::slice, slice)
}

pub(super) fn center_crop_pad_any(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    either(n, &[1], super::slice::center_crop_pad, center_crop_pad)
}

pub(super) fn too_many_dimensions(rank: usize) -> Error {
    Error::unsupported(format!("a tensor of {rank} dimensions"))
        .with_hint("Core ML has at most five: merge neighboring dimensions of the model")
}

/// Axes of `Squeeze` and `Unsqueeze`: an attribute, or from version 13 on an input.
enum Axes {
    Known(Vec<i64>),
    Computed(ValueId),
    None,
}

fn axes(n: &mut Node<'_, '_>) -> Result<Axes> {
    if let Some(axes) = n.ints("axes")? {
        return Ok(Axes::Known(axes.to_vec()));
    }
    if !n.has(1) {
        return Ok(Axes::None);
    }
    match n.known_ints(1) {
        Some(axes) => Ok(Axes::Known(axes)),
        None => Ok(Axes::Computed(n.value(1)?)),
    }
}

pub(super) fn squeeze(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let rank = n.rank(v.id)?;
    let axes = match axes(n)? {
        Axes::Known(axes) => axes.iter().map(|&a| n.axis(v.id, a)).collect::<Result<Vec<_>>>()?,
        Axes::Computed(axes) => {
            let count = axis_count(n, axes)?;
            let shape = squeezed_shape(n, v.id, axes, count)?;
            let y = n.reshape_by(v.id, shape)?;
            return one(y, v.elem);
        }
        Axes::None => {
            let mut axes = Vec::new();
            for d in 0..rank {
                let size = n.dim(v.id, d)?.fixed().ok_or_else(|| {
                    Error::unsupported("all dimensions of size 1 are dropped, but not all sizes are known")
                        .with_hint("give the model's dynamic sizes numbers, or name the axes")
                })?;
                if size == 1 {
                    axes.push(d);
                }
            }
            axes
        }
    };
    let mut axes: Vec<i32> = axes.iter().map(|&a| a as i32).collect();
    axes.sort_unstable();
    axes.dedup();
    let y = n.squeeze(v.id, &axes)?;
    one(y, v.elem)
}

pub(super) fn unsqueeze(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let rank = n.rank(v.id)?;
    let y = match axes(n)? {
        Axes::Known(axes) => {
            let total = rank + axes.len();
            if total > 5 {
                return Err(too_many_dimensions(total));
            }
            let mut axes =
                axes.iter().map(|&a| normalize(a, total).map(|a| a as i32)).collect::<Result<Vec<_>>>()?;
            axes.sort_unstable();
            n.expand_dims(v.id, &axes)?
        }
        Axes::Computed(axes) => {
            let total = rank + axis_count(n, axes)?;
            if total > 5 {
                return Err(too_many_dimensions(total));
            }
            let shape = unsqueezed_shape(n, v.id, axes, total)?;
            n.reshape_by(v.id, shape)?
        }
        Axes::None => return Err(Error::malformed("`axes` is missing")),
    };
    one(y, v.elem)
}

/// Starts, ends, axes and steps are attributes before version 10, then inputs.
pub(super) fn slice(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let rank = n.rank(v.id)?;
    if n.opset < 10 {
        let missing = || Error::malformed("`starts` or `ends` is missing");
        let starts = n.ints("starts")?.ok_or_else(missing)?;
        let ends = n.ints("ends")?.ok_or_else(missing)?;
        let axes = n.ints("axes")?.map_or_else(|| (0..starts.len() as i64).collect(), <[i64]>::to_vec);
        let axes = axes.iter().map(|&a| n.axis(v.id, a)).collect::<Result<Vec<_>>>()?;
        let steps = vec![1; starts.len()];
        let y = slice_known(n, v.id, starts, ends, &axes, &steps)?;
        return one(y, v.elem);
    }
    let (known_starts, known_ends) = (n.known_ints(1), n.known_ints(2));
    let count = match &known_starts {
        Some(starts) => starts.len(),
        None => {
            let starts = n.value(1)?;
            axis_count(n, starts)?
        }
    };
    let axes = if n.has(3) { n.known_ints(3) } else { Some((0..count as i64).collect()) };
    let steps = if n.has(4) { n.known_ints(4) } else { Some(vec![1; count]) };
    let known_axes = match &axes {
        Some(axes) => Some(axes.iter().map(|&a| n.axis(v.id, a)).collect::<Result<Vec<_>>>()?),
        None => None,
    };
    if let (Some(starts), Some(ends), Some(axes), Some(steps)) =
        (&known_starts, &known_ends, &known_axes, &steps)
    {
        let y = slice_known(n, v.id, starts, ends, axes, steps)?;
        return one(y, v.elem);
    }
    let starts = bounds(n, 1)?;
    let ends = bounds(n, 2)?;
    let (Some(axes), Some(steps)) = (axes, steps) else {
        let (axes, steps) = (n.opt(3)?, n.opt(4)?);
        let y = slice_anywhere(n, v.id, starts, ends, axes, steps, count)?;
        return one(y, v.elem);
    };
    let axes = axes.iter().map(|&a| n.axis(v.id, a)).collect::<Result<Vec<_>>>()?;
    if axes.len() != count || steps.len() != count || steps.contains(&0) {
        return Err(Error::malformed("axes, steps and starts do not fit each other"));
    }
    // Constants where they are known, so that sizes stay known.
    let all = |n: &Lowering, v: ValueId| n.builder.partial(v).unwrap_or_else(|| vec![None; count]);
    let (known_starts, known_ends) = (all(n, starts), all(n, ends));
    let (mut begins, mut stops) = (Vec::with_capacity(rank), Vec::with_capacity(rank));
    let (mut from_start, mut to_end, mut strides) = (vec![true; rank], vec![true; rank], vec![1; rank]);
    for d in 0..rank {
        let Some(i) = axes.iter().position(|&a| a == d) else {
            begins.push(n.int_vector(&[0]));
            stops.push(n.int_vector(&[0]));
            continue;
        };
        strides[d] = i32_from(steps[i]);
        let part = |n: &mut Lowering, v: ValueId, known: Option<i64>| match known {
            Some(k) => Ok(n.int_vector(&[i32_from(k)])),
            None => n.cut(v, 0, i as i32, Some(i as i32 + 1)),
        };
        begins.push(part(n, starts, known_starts[i])?);
        stops.push(part(n, ends, known_ends[i])?);
        let forward = steps[i] > 0;
        from_start[d] =
            known_starts[i].is_some_and(|s| if forward { s == 0 } else { s >= i64::from(i32::MAX) });
        to_end[d] = known_ends[i]
            .is_some_and(|e| if forward { e >= i64::from(i32::MAX) } else { e <= -i64::from(i32::MAX) });
    }
    let begin = n.concat(begins, 0)?;
    let end = n.concat(stops, 0)?;
    let y = op!(
        n,
        SliceByIndex,
        x = v.id,
        begin = begin,
        end = end,
        stride = &strides[..],
        begin_mask = &from_start[..],
        end_mask = &to_end[..]
    )?;
    one(y, v.elem)
}

/// The starts or ends of a slice as a vector of int32, into which larger numbers are moved.
fn bounds(n: &mut Node<'_, '_>, i: usize) -> Result<ValueId> {
    if let Some(known) = n.known_ints(i) {
        let known: Vec<i32> = known.iter().map(|&b| i32_from(b)).collect();
        return Ok(n.int_vector(&known));
    }
    let bounds = n.value(i)?;
    n.as_vector(bounds)
}

fn slice_known(
    n: &mut Lowering,
    x: ValueId,
    starts: &[i64],
    ends: &[i64],
    axes: &[usize],
    steps: &[i64],
) -> Result<ValueId> {
    if starts.len() != axes.len() || ends.len() != axes.len() {
        return Err(Error::malformed("axes, starts and ends do not fit each other"));
    }
    let rank = n.rank(x)?;
    let (mut begins, mut stops, mut strides) = (vec![0; rank], vec![0; rank], vec![1; rank]);
    let (mut from_start, mut to_end) = (vec![true; rank], vec![true; rank]);
    for (i, &d) in axes.iter().enumerate() {
        let (start, end, step) = (starts[i], ends[i], steps[i]);
        let size = n.dim(x, d)?.fixed().map(|s| s as i64);
        let low = |v: i64| v <= -i64::from(i32::MAX) || size.is_some_and(|s| v < -s);
        let high = |v: i64| v >= i64::from(i32::MAX) || size.is_some_and(|s| v >= s);
        begins[d] = i32_from(start);
        stops[d] = i32_from(end);
        strides[d] = i32_from(step);
        if step > 0 {
            from_start[d] = start == 0 || low(start);
            to_end[d] = high(end);
        } else {
            from_start[d] = high(start);
            to_end[d] = low(end);
        }
    }
    if begins.iter().all(|&b| b == 0)
        && from_start.iter().all(|&m| m)
        && to_end.iter().all(|&m| m)
        && strides.iter().all(|&s| s == 1)
    {
        return Ok(x);
    }
    op!(
        n,
        SliceByIndex,
        x = x,
        begin = &begins[..],
        end = &stops[..],
        stride = &strides[..],
        begin_mask = &from_start[..],
        end_mask = &to_end[..]
    )
}

/// Slices whose axes or steps are computed: every dimension is gathered at computed places.
fn slice_anywhere(
    n: &mut Lowering,
    x: ValueId,
    starts: ValueId,
    ends: ValueId,
    axes: Option<V>,
    steps: Option<V>,
    count: usize,
) -> Result<ValueId> {
    let rank = n.rank(x)?;
    let vector = |n: &mut Lowering, v: Option<V>, default: Vec<i32>| match v {
        Some(v) => n.as_vector(v.id),
        None => Ok(n.int_vector(&default)),
    };
    let starts = n.as_vector(starts)?;
    let ends = n.as_vector(ends)?;
    let axes = vector(n, axes, (0..count as i32).collect())?;
    let steps = vector(n, steps, vec![1; count])?;
    let axes = n.modulo(axes, rank as f64)?;
    let mut y = x;
    for d in 0..rank {
        let hit = n.equal(axes, d as f64)?;
        let hit = n.cast(hit, DType::Int32)?;
        let named = n.reduce(ReduceMax, hit, &[0], false)?;
        let named = n.bool_of(named)?;
        let pick = |n: &mut Lowering, v: ValueId| {
            let own = n.mul(v, hit)?;
            n.sum(own, &[0], false)
        };
        let (start, end, step) = (pick(n, starts)?, pick(n, ends)?, pick(n, steps)?);
        let size = n.size_value(&Size::Of(x, d..d + 1))?;
        let step = n.select(named, step, 1.0)?;
        let back = n.less(step, 0.0)?;
        let last = n.sub(size, 1.0)?;
        // Into range: 0 … size going up, -1 … size - 1 going down.
        let low = n.select_as(back, -1.0, 0.0, DType::Int32)?;
        let high = n.select(back, last, size)?;
        let bound = |n: &mut Lowering, v: ValueId| {
            let moved = n.add(v, size)?;
            let negative = n.less(v, 0.0)?;
            let v = n.select(negative, moved, v)?;
            let v = n.max(v, low)?;
            n.min(v, high)
        };
        let start = bound(n, start)?;
        let end = bound(n, end)?;
        let start = n.select(named, start, 0.0)?;
        let end = n.select(named, end, size)?;
        // ⌈(end - start) / step⌉
        let span = n.sub(start, end)?;
        let length = n.floor_div(span, step)?;
        let length = n.neg(length)?;
        let length = n.max(length, 0.0)?;
        let places = n.range(length)?;
        let places = n.mul(places, step)?;
        let places = n.add(places, start)?;
        y = n.gather(y, places, d)?;
    }
    Ok(y)
}

pub(super) fn space_to_depth(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let block = block_size(n)?;
    let crd = is_crd(n)?;
    if n.dtype(v.id)?.is_float() && block > 1 && !crd {
        let y = op!(n, SpaceToDepth, x = v.id, block_size = block as i32)?;
        return one(y, v.elem);
    }
    let [batch, channels, height, width] = n.need_shape(v.id, "SpaceToDepth")?[..] else {
        return Err(Error::malformed("an input that is not [batch, channels, height, width]"));
    };
    let (rows, columns) = (height / block, width / block);
    let dims = |d: &[usize]| -> Vec<i64> { d.iter().map(|&d| d as i64).collect() };
    let (outer, inner) = if crd { (batch * channels, 1) } else { (batch, channels) };
    let y = n.reshape(v.id, &dims(&[outer, inner, rows, block, columns * block]))?;
    let y = n.transpose(y, &[0, 3, 1, 2, 4])?;
    let y = n.reshape(y, &dims(&[outer * block, inner * rows, columns, block]))?;
    let y = n.transpose(y, &[0, 3, 1, 2])?;
    let y = n.reshape(y, &dims(&[batch, channels * block * block, rows, columns]))?;
    one(y, v.elem)
}

fn block_size(n: &mut Node<'_, '_>) -> Result<usize> {
    let block = n.int("blocksize")?.ok_or_else(|| Error::malformed("`blocksize` is missing"))?;
    usize::try_from(block)
        .ok()
        .filter(|&b| b > 0)
        .ok_or_else(|| Error::malformed(format!("blocks of {block}")))
}

fn is_crd(n: &mut Node<'_, '_>) -> Result<bool> {
    match n.text_or("mode", "DCR")? {
        "DCR" => Ok(false),
        "CRD" => Ok(true),
        other => Err(Error::malformed(format!("the mode `{other}`; it has to be DCR or CRD"))),
    }
}

/// Crops or pads dimensions around their middle.
pub(super) fn center_crop_pad(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, shape) = (n.need(0)?, n.need(1)?);
    let rank = n.rank(v.id)?;
    let axes = match n.ints("axes")? {
        Some(axes) => axes.iter().map(|&a| n.axis(v.id, a)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    let shape = n.as_vector(shape.id)?;
    let partial = n.builder.partial(shape).unwrap_or_else(|| vec![None; axes.len()]);
    if partial.len() != axes.len() {
        return Err(Error::malformed("the shape does not fit the axes"));
    }
    let mut y = v.id;
    for (i, &axis) in axes.iter().enumerate() {
        let size = n.dim(y, axis)?.fixed();
        if let (Some(wanted), Some(size)) = (partial[i], size.map(|s| s as i64)) {
            if wanted < size {
                let start = (size - wanted) / 2;
                y = n.cut(y, axis, i32_from(start), Some(i32_from(start + wanted)))?;
            } else if wanted > size {
                let before = (wanted - size) / 2;
                let zero = super::pad::Fill::Number(0.0);
                y = super::pad::constant_block(n, y, axis, before, wanted - size - before, zero)?;
            }
            continue;
        }
        let wanted = n.cut(shape, 0, i as i32, Some(i as i32 + 1))?;
        let size = n.shape(&[Size::Of(y, axis..axis + 1)])?;
        let more = n.sub(wanted, size)?;
        let sign = n.un(Sign, more)?;
        let half = n.un(Abs, more)?;
        let half = n.floor_div(half, 2.0)?;
        let before = n.mul(half, sign)?;
        y = super::pad::gathered(n, y, axis, before, wanted, "constant", super::pad::Fill::Number(0.0))?;
    }

    one(y, v.elem)
}

/// [batch, sizes…, channels] as [batch, channels, sizes…].
pub(super) fn channels_second(n: &mut Lowering, x: ValueId) -> Result<ValueId> {
    let rank = n.rank(x)?;
    let mut order: Vec<usize> = (0..rank).collect();
    order[1..].rotate_right(1);
    n.transpose(x, &order)
}

/// [batch, channels, sizes…] as [batch, sizes…, channels].
pub(super) fn channels_last(n: &mut Lowering, x: ValueId) -> Result<ValueId> {
    let rank = n.rank(x)?;
    let mut order: Vec<usize> = (0..rank).collect();
    order[1..].rotate_left(1);
    n.transpose(x, &order)
}
