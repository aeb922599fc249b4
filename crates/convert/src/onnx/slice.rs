//! Joining, cutting, picking and padding along axes.

use milwright_mil::{DType, Dim, Opset, ValueId};

use super::item::Val;
use super::node::Node;
use crate::Error;
use crate::lower::{Result, Size, i32_from, normalize, op};

/// `Concat`. Version 1 joins along dimension 1 if it says no axis.
pub(super) fn concat(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let axis = match n.int("axis")? {
        Some(axis) => axis,
        None if n.opset < 4 => 1,
        None => return Err(Error::malformed("its attribute `axis` is missing")),
    };
    let values = n.values()?;
    let axis = n.axis(values[0], axis)?;
    // Parts without elements change nothing.
    let mut parts = Vec::with_capacity(values.len());
    for &value in &values {
        if n.rank(value)? <= axis || n.dim(value, axis)? != Dim::Fixed(0) {
            parts.push(value);
        }
    }
    let result = match parts[..] {
        [] => values[0],
        [only] => only,
        _ => op!(n, Concat, values = parts, axis = axis as i32)?,
    };
    Ok(Val::new(elem, result))
}

/// The most parts that a tensor is split into.
const MAX_PARTS: usize = 4096;

/// `Split`: by sizes, or into as many parts as there are outputs.
pub(super) fn split(n: &mut Node<'_, '_>) -> Result<Vec<Val>> {
    let elem = n.elem(0)?;
    let axis = n.int_or("axis", 0)?;
    let attribute = n.ints("split")?.map(<[i64]>::to_vec);
    let count = n.int("num_outputs")?.map_or(n.output_count(), |c| usize::try_from(c).unwrap_or(0));
    let x = n.value(0)?;
    let axis = n.axis(x, axis)?;
    let vals = |parts: Vec<ValueId>| parts.into_iter().map(|p| Val::new(elem, p)).collect();
    let given = if n.opset >= 13 || n.has(1) { n.has(1) } else { false };
    let sizes = match attribute {
        Some(sizes) => Some(sizes),
        None if given => match n.known_ints(1) {
            Some(sizes) => Some(sizes),
            None => return split_at_run_time(n, x, axis).map(vals),
        },
        None => None,
    };
    if count == 0 || count < n.output_count() || count > MAX_PARTS {
        return Err(Error::malformed(format!("{count} parts for {} outputs", n.output_count())));
    }
    let sizes = match (sizes, n.dim(x, axis)?) {
        (Some(sizes), _) => sizes,
        (None, _) if count == 1 => return Ok(vals(vec![x])),
        // The last part is smaller if the size is no multiple.
        (None, Dim::Fixed(size)) => {
            let part = size.div_ceil(count);
            (0..count).map(|i| part.min(size.saturating_sub(i * part)) as i64).collect()
        }
        (None, Dim::Unknown) => {
            let inputs = vec![
                crate::lower::In::from(x).named(milwright_mil::param!(Split.x)),
                crate::lower::In::from(i32_from(count as i64)).named(milwright_mil::param!(Split.num_splits)),
                crate::lower::In::from(axis as i32).named(milwright_mil::param!(Split.axis)),
            ];
            return Ok(vals(n.ops(milwright_mil::OpKind::Split, inputs)?));
        }
    };
    if sizes.iter().any(|&s| s < 0) {
        return Err(Error::malformed(format!("parts of the sizes {sizes:?}")));
    }
    let total: i64 = sizes.iter().sum();
    if n.dim(x, axis)?.fixed().is_some_and(|size| size as i64 != total) {
        let size = n.dim(x, axis)?;
        return Err(Error::malformed(format!("parts of the sizes {sizes:?} of a dimension of size {size}")));
    }
    if let [_] = sizes[..] {
        return Ok(vals(vec![x]));
    }
    if sizes.contains(&0) {
        let mut parts = Vec::with_capacity(sizes.len());
        let mut begin = 0i64;
        for size in sizes {
            parts.push(cut(n, x, axis, begin, begin + size)?);
            begin += size;
        }
        return Ok(vals(parts));
    }
    let sizes: Vec<i32> = sizes.iter().map(|&s| i32_from(s)).collect();
    let inputs = vec![
        crate::lower::In::from(x).named(milwright_mil::param!(Split.x)),
        crate::lower::In::from(&sizes[..]).named(milwright_mil::param!(Split.split_sizes)),
        crate::lower::In::from(axis as i32).named(milwright_mil::param!(Split.axis)),
    ];
    Ok(vals(n.ops(milwright_mil::OpKind::Split, inputs)?))
}

/// The elements from `begin` to before `end` along an axis.
pub(super) fn cut(n: &mut Node<'_, '_>, x: ValueId, axis: usize, begin: i64, end: i64) -> Result<ValueId> {
    let rank = n.rank(x)?;
    let (mut begins, mut ends) = (vec![0i32; rank], vec![0i32; rank]);
    let mut masks = vec![true; rank];
    (begins[axis], ends[axis], masks[axis]) = (i32_from(begin), i32_from(end), false);
    op!(
        n,
        SliceByIndex,
        x = x,
        begin = &begins[..],
        end = &ends[..],
        begin_mask = &masks[..],
        end_mask = &masks[..]
    )
}

fn split_at_run_time(n: &mut Node<'_, '_>, x: ValueId, axis: usize) -> Result<Vec<ValueId>> {
    let sizes = n.value(1)?;
    let rank = n.rank(x)?;
    let mut masks = vec![true; rank];
    masks[axis] = false;
    let ends = op!(n, Cumsum, x = sizes, axis = 0)?;
    let begins = op!(n, Sub, x = ends, y = sizes)?;
    let mut parts = Vec::new();
    for i in 0..n.output_count() {
        let at = |bounds: ValueId| -> Vec<Size> {
            (0..rank).map(|d| if d == axis { Size::Element(bounds, i) } else { Size::Fixed(0) }).collect()
        };
        let (begin, end) = (n.shape(&at(begins))?, n.shape(&at(ends))?);
        parts.push(op!(
            n,
            SliceByIndex,
            x = x,
            begin = begin,
            end = end,
            begin_mask = &masks[..],
            end_mask = &masks[..]
        )?);
    }
    Ok(parts)
}

/// `Slice`. Until 9 its bounds are attributes.
pub(super) fn slice(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let x = n.value(0)?;
    let rank = n.rank(x)?;
    let (starts, ends, axes, steps);
    if n.opset < 10 {
        let known = |v: Option<&[i64]>| v.map(|v| v.iter().map(|&i| Some(i)).collect::<Vec<_>>());
        starts = known(n.ints("starts")?);
        ends = known(n.ints("ends")?);
        axes = n.ints("axes")?.map(<[i64]>::to_vec);
        steps = None;
    } else {
        starts = n.partial_ints(1);
        ends = n.partial_ints(2);
        axes = if n.has(3) { Some(n.ints_of(3, "the axes")?) } else { None };
        steps = if n.has(4) { Some(n.ints_of(4, "the steps")?) } else { None };
    }
    let missing = || Error::malformed("its starts or ends are missing, or of unknown number");
    let (starts, ends) = (starts.ok_or_else(missing)?, ends.ok_or_else(missing)?);
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&len| len != starts.len()) {
        return Err(Error::malformed("its starts, ends, axes and steps are not equally many"));
    }
    let mut whole = vec![true; rank];
    let (mut begin, mut end) = (vec![Bound::Known(0); rank], vec![Bound::Known(0); rank]);
    let (mut begin_mask, mut end_mask, mut stride) = (vec![true; rank], vec![true; rank], vec![1i32; rank]);
    for (i, &axis) in axes.iter().enumerate() {
        let axis = normalize(axis, rank)?;
        let step = steps[i];
        if step == 0 {
            return Err(Error::malformed("a step of 0"));
        }
        let size = n.dim(x, axis)?.fixed().and_then(|n| i64::try_from(n).ok());
        stride[axis] = i32_from(step);
        let forward = step > 0;
        let first = starts[i].map(|s| bound(s, size, forward, true));
        let last = ends[i].map(|e| bound(e, size, forward, false));
        whole[axis] = forward && step == 1 && first == Some(Edge::Open) && last == Some(Edge::Open);
        (begin[axis], begin_mask[axis]) = match first {
            Some(Edge::Open) => (Bound::Known(0), true),
            Some(Edge::At(at)) => (Bound::Known(i32_from(at)), false),
            None => (Bound::Element(1, i), false),
        };
        (end[axis], end_mask[axis]) = match last {
            Some(Edge::Open) => (Bound::Known(0), true),
            Some(Edge::At(at)) => (Bound::Known(i32_from(at)), false),
            None => (Bound::Element(2, i), false),
        };
    }
    if whole.iter().all(|&w| w) {
        return Ok(Val::new(elem, x));
    }
    let (begin, end) = (bounds(n, &begin)?, bounds(n, &end)?);
    let result = op!(
        n,
        SliceByIndex,
        x = x,
        begin = begin,
        end = end,
        stride = &stride[..],
        begin_mask = &begin_mask[..],
        end_mask = &end_mask[..]
    )?;
    Ok(Val::new(elem, result))
}

/// A bound of a slice: a number, or an element of one of the node's inputs.
#[derive(Clone, Copy)]
enum Bound {
    Known(i32),
    Element(usize, usize),
}

/// Where a slice begins or ends, if that is known.
#[derive(Clone, Copy, PartialEq)]
enum Edge {
    /// At the first or last element that there is.
    Open,
    At(i64),
}

/// Bounds far outside stand for the edge. A bound beyond the edge that the size tells is the edge, too: MIL would count
/// it from the end.
fn bound(at: i64, size: Option<i64>, forward: bool, begins: bool) -> Edge {
    let far = i64::from(i32::MAX) - 1;
    // Whether the bound that is far below is the open one: the beginning of a forward slice, the end of a backward one.
    let low_is_open = forward == begins;
    if at <= -far || size.is_some_and(|n| at < -n) {
        return if low_is_open { Edge::Open } else { Edge::At(if forward { 0 } else { -far }) };
    }
    if at >= far || size.is_some_and(|n| at >= n) {
        return match (low_is_open, size) {
            (false, _) => Edge::Open,
            (true, Some(n)) if forward => Edge::At(n),
            (true, _) => Edge::At(at.min(far)),
        };
    }
    if at == 0 && forward && begins {
        return Edge::Open;
    }
    Edge::At(at)
}

fn bounds(n: &mut Node<'_, '_>, bounds: &[Bound]) -> Result<ValueId> {
    let known: Option<Vec<i32>> = bounds
        .iter()
        .map(|b| match b {
            Bound::Known(at) => Some(*at),
            Bound::Element(..) => None,
        })
        .collect();
    if let Some(known) = known {
        return Ok(n.int_vector(&known));
    }
    let mut parts = Vec::with_capacity(bounds.len());
    for bound in bounds {
        parts.push(match *bound {
            Bound::Known(at) => n.int_vector(&[at]),
            Bound::Element(input, i) => {
                let vector = n.value(input)?;
                n.element(vector, i)?
            }
        });
    }
    match parts[..] {
        [only] => Ok(only),
        _ => op!(n, Concat, values = parts, axis = 0),
    }
}

/// `Gather`: slices along an axis by index. Negative indices count from the end.
pub(super) fn gather(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let axis = n.int_or("axis", 0)?;
    let x = n.value(0)?;
    let axis = n.axis(x, axis)?;
    let indices = n.value(1)?;
    let indices = from_front(n, indices, x, axis)?;
    let dtype = n.ty(x)?.dtype;
    let x = if dtype == DType::Bool { n.cast(x, DType::Int32)? } else { x };
    let result = op!(n, Gather, x = x, indices = indices, axis = axis as i32)?;
    Ok(Val::new(elem, n.cast(result, dtype)?))
}

/// Indices into an axis, counted from the front: MIL promises no others from iOS17 on.
pub(super) fn from_front(n: &mut Node<'_, '_>, indices: ValueId, x: ValueId, axis: usize) -> Result<ValueId> {
    if let Some(known) = n.known_integers(indices) {
        if known.iter().all(|&i| i >= 0) {
            return Ok(indices);
        }
    } else if n.target() < Opset::Ios17 {
        return Ok(indices);
    }
    let size = n.shape(&[Size::Of(x, axis..axis + 1)])?;
    let size = n.scalar(size)?;
    let is_negative = op!(n, Less, x = indices, y = 0)?;
    let moved = op!(n, Add, x = indices, y = size)?;
    op!(n, Select, cond = is_negative, a = moved, b = indices)
}

/// Pads with a value that is computed, or that is no float, by joining with filled tensors.
fn pad_by_joining(n: &mut Node<'_, '_>, x: ValueId, before: &[i64], after: &[i64]) -> Result<ValueId> {
    let (rank, dtype) = (n.rank(x)?, n.ty(x)?.dtype);
    let mut x = x;
    for axis in 0..rank {
        if before[axis] == 0 && after[axis] == 0 {
            continue;
        }
        let mut parts = Vec::with_capacity(3);
        for (amount, is_first) in [(before[axis], true), (after[axis], false)] {
            if amount > 0 {
                let size =
                    |d: usize| if d == axis { Size::Fixed(amount as usize) } else { Size::Of(x, d..d + 1) };
                let sizes: Vec<Size> = (0..rank).map(size).collect();
                let shape = n.shape(&sizes)?;
                let part = match n.known(2) {
                    None if n.has(2) => {
                        let value = n.value(2)?;
                        let value = n.scalar(value)?;
                        n.spread(value, shape)?
                    }
                    known => {
                        let number = known.and_then(|t| t.to_f64().first().copied()).unwrap_or(0.0);
                        n.filled(shape, dtype, number)?
                    }
                };
                parts.push(part);
            }
            if is_first {
                parts.push(x);
            }
        }
        x = op!(n, Concat, values = parts, axis = axis as i32)?;
    }
    Ok(x)
}

/// `CenterCropPad`: crops or pads around the middle to sizes.
pub(super) fn center_crop_pad(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let x = n.value(0)?;
    let rank = n.rank(x)?;
    let axes: Vec<usize> = match n.ints("axes")? {
        Some(axes) => axes.iter().map(|&a| normalize(a, rank)).collect::<Result<_>>()?,
        None => (0..rank).collect(),
    };
    let sizes = n.ints_of(1, "the sizes")?;
    if sizes.len() != axes.len() {
        return Err(Error::malformed("it has not as many sizes as axes"));
    }
    let (mut before, mut after) = (vec![0i64; rank], vec![0i64; rank]);
    let mut x = x;
    for (&axis, &wanted) in axes.iter().zip(&sizes) {
        let size = n.size(x, axis)? as i64;
        if wanted < size {
            let begin = (size - wanted) / 2;
            x = cut(n, x, axis, begin, begin + wanted)?;
        } else {
            before[axis] = (wanted - size) / 2;
            after[axis] = wanted - size - before[axis];
        }
    }
    Ok(Val::new(elem, pad_by_joining(n, x, &before, &after)?))
}

/// `ReverseSequence`: reverses the first elements along the time axis, as many as each batch element has.
pub(super) fn reverse_sequence(n: &mut Node<'_, '_>) -> Result<Val> {
    let (batch, time) = (n.int_or("batch_axis", 1)?, n.int_or("time_axis", 0)?);
    let (elem, x, lengths) = (n.elem(0)?, n.value(0)?, n.value(1)?);
    let (batch, time) = (n.axis(x, batch)? as i32, n.axis(x, time)? as i32);
    Ok(Val::new(
        elem,
        op!(n, ReverseSequence, x = x, lengths = lengths, seq_axis = time, batch_axis = batch)?,
    ))
}
