//! Sorting, searching, and what has as many results as the data says.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, Input, Value, ValueId, param};

use super::cast;
use super::compose::{V, one};
use super::elem::Elem;
use super::node::Node;
use crate::Error;
use crate::lower::{Lowering, Result, Size, i32_from, op};

/// The number of elements is an attribute before version 10, then an input.
pub(super) fn top_k(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let axis = n.axis_or("axis", -1, v.id)?;
    let ascending = !n.flag("largest", true)?;
    let known = match n.int("k")? {
        Some(k) if !n.has(1) => Some(k as f64),
        _ => {
            n.val(1)?;
            n.known_scalar(1)
        }
    };
    let (values, indices) = match known {
        Some(k) => {
            let inputs = vec![
                Input::value(param!(Topk.x), v.id),
                Input::constant(param!(Topk.k), Value::int(i32_from(k as i64))),
                Input::constant(param!(Topk.axis), Value::int(axis as i32)),
                Input::constant(param!(Topk.ascending), Value::bool(ascending)),
            ];
            match n.ops(Topk, inputs)?[..] {
                [values, indices] => (values, indices),
                _ => return Err(Error::malformed("a sort without indices")),
            }
        }
        None => {
            // Sorts all of them, and takes the first.
            let order = op!(n, Argsort, x = v.id, axis = axis as i32, ascending = ascending)?;
            let k = n.value(1)?;
            let k = n.as_vector(k)?;
            let rank = n.rank(v.id)?;
            let mut parts = Vec::with_capacity(rank);
            for d in 0..rank {
                parts.push(if d == axis { k } else { n.shape(&[Size::Of(v.id, d..d + 1)])? });
            }
            let size = n.concat(parts, 0)?;
            let begin = vec![0; rank];
            let indices = op!(n, SliceBySize, x = order, begin = &begin[..], size = size)?;
            let values = op!(n, GatherAlongAxis, x = v.id, indices = indices, axis = axis as i32)?;
            (values, indices)
        }
    };
    Ok(vec![V { id: values, elem: v.elem }, V { id: indices, elem: Elem::Int64 }])
}

/// A column for each element that is not zero.
pub(super) fn non_zero(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    if n.rank(v.id)? == 0 {
        // A scalar has one element, whose index has no components.
        let bool = n.bool_of(v.id)?;
        let count = n.cast(bool, DType::Int32)?;
        let count = n.expand_dims(count, &[0])?;
        let zero = n.int_vector(&[0]);
        let shape = n.concat(vec![zero, count], 0)?;
        let y = n.fill(shape, 0.0, DType::Int32)?;
        return one(y, Elem::Int64);
    }
    let rows = op!(n, NonZero, x = v.id)?;
    let y = n.transpose(rows, &[1, 0])?;
    one(y, Elem::Int64)
}

/// The different elements, or slices along an axis, sorted or in the order of their first occurrence; with the place of the
/// first occurrence, the inverse map, and how often each occurs.
pub(super) fn unique(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (sorted, axis) = (n.flag("sorted", true)?, n.int("axis")?);
    unique_of(n, sorted, axis)
}

/// The unique slices along an axis, or elements; where each occurs first; the place of each slice in them; and how often
/// each occurs.
pub(super) fn unique_of(n: &mut Node<'_, '_>, sorted: bool, axis: Option<i64>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    if v.elem == Elem::String {
        return Err(Error::unsupported("strings").with_hint(cast::STRINGS));
    }
    let (data, axis) = match axis {
        Some(axis) => (v.id, n.axis(v.id, axis)?),
        None => (n.reshape(v.id, &[-1])?, 0),
    };
    let bool = n.dtype(data)? == DType::Bool;
    let numbers = if bool { n.cast(data, DType::Int32)? } else { data };
    let rank = n.rank(numbers)?;
    // A row for each slice.
    let mut order: Vec<usize> = vec![axis];
    order.extend((0..rank).filter(|&d| d != axis));
    let rows = n.transpose(numbers, &order)?;
    let rows = match rank {
        1 => n.expand_dims(rows, &[1])?,
        _ => n.reshape_to(rows, &[Size::Of(rows, 0..1), Size::Of(rows, 1..rank)])?,
    };
    let columns = n.size(rows, 1)?;
    if columns > 256 {
        return Err(Error::unsupported(format!("unique slices of {columns} elements"))
            .with_hint("up to 256 elements are compared"));
    }
    // Sort by the last column first; sorting is stable, so that the first column decides in the end.
    let mut sorting = n.range_to(&Size::Of(rows, 0..1))?;
    let mut current = rows;
    for column in (0..columns).rev() {
        let key = n.take_one(current, 1, column as i32)?;
        let by = op!(n, Argsort, x = key, axis = 0, ascending = true)?;
        current = n.gather(current, by, 0)?;
        sorting = n.gather(sorting, by, 0)?;
    }
    // Of no slices at all, none is the first.
    let head = n.cut(sorting, 0, 0, Some(1))?;
    let head = n.mul(head, 0.0)?;
    let mut starts = n.add(head, 1.0)?;
    if n.dim(rows, 0)?.fixed() != Some(1) {
        // A slice is new where it differs from the one before it.
        let before = n.cut(current, 0, 0, Some(-1))?;
        let after = n.cut(current, 0, 1, None)?;
        let differs = n.not_equal(before, after)?;
        let differs = n.cast(differs, DType::Int32)?;
        let differs = n.reduce(ReduceMax, differs, &[1], false)?;
        starts = n.concat(vec![starts, differs], 0)?;
    }
    let hits = op!(n, NonZero, x = starts)?;
    let hits = n.squeeze(hits, &[1])?;
    // Stable sorting puts the first occurrence of each in front.
    let mut first = n.gather(sorting, hits, 0)?;
    let group = op!(n, Cumsum, x = starts, axis = 0)?;
    let group = n.sub(group, 1.0)?;
    // The group of each slice, in the slices' own order.
    let back = op!(n, Argsort, x = sorting, axis = 0, ascending = true)?;
    let mut inverse = n.gather(group, back, 0)?;
    let count = n.size_value(&Size::Of(starts, 0..1))?;
    let count = n.expand_dims(count, &[0])?;
    let next = n.cut(hits, 0, 1, None)?;
    let ends = n.concat(vec![next, count], 0)?;
    // Where there is nothing, the end alone remains.
    let ends = cut_like(n, ends, hits)?;
    let mut counts = n.sub(ends, hits)?;
    if !sorted {
        let by = op!(n, Argsort, x = first, axis = 0, ascending = true)?;
        first = n.gather(first, by, 0)?;
        counts = n.gather(counts, by, 0)?;
        let places = op!(n, Argsort, x = by, axis = 0, ascending = true)?;
        inverse = n.gather(places, inverse, 0)?;
    }
    let y = n.gather(data, first, axis)?;
    let int = |id| V { id, elem: Elem::Int64 };
    Ok(vec![V { id: y, elem: v.elem }, int(first), int(inverse), int(counts)])
}

/// The first elements of a vector, as many as another has.
fn cut_like(n: &mut Lowering, x: ValueId, like: ValueId) -> Result<ValueId> {
    let size = n.shape(&[Size::Of(like, 0..1)])?;
    op!(n, SliceBySize, x = x, begin = &[0][..], size = size)
}

/// Boxes by score, of which each suppresses those that overlap it too much, for each batch and class.
///
/// MIL's op pads its result and wants constants; here the suppression is a loop over the boxes in the order of their scores,
/// for all batches and classes at once. Boxes whose scores are too low are cut off before.
pub(super) fn non_max_suppression(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (boxes, scores) = (n.need(0)?.id, n.need(1)?.id);
    let center = n.int_or("center_point_box", 0)? != 0;
    let boxes = n.float_of(boxes)?;
    let scores = n.float_of(scores)?;
    let (batches, count) = (n.size(boxes, 0)?, n.dim(boxes, 1)?);
    let classes = n.size(scores, 1)?;
    if !n.has(2) {
        return nothing(n);
    }
    // "As many as there are" may be more than an int32 holds.
    let limit = match n.known_ints(2).and_then(|limit| limit.first().copied()) {
        Some(limit) if limit <= 0 => return nothing(n),
        Some(limit) => n.constant(milwright_mil::Tensor::scalar(i32::try_from(limit).unwrap_or(i32::MAX))),
        None => {
            let limit = n.value(2)?;
            let limit = n.int_of(limit)?;
            n.scalar(limit)?
        }
    };
    if count.fixed() == Some(0) {
        return nothing(n);
    }
    let iou_threshold = n.opt(3)?;
    let score_threshold = n.opt(4)?;
    let images = batches * classes;
    // [images, boxes]; each image repeats its batch's boxes.
    let scores = n.reshape_to(scores, &[Size::Fixed(images), Size::Of(boxes, 1..2)])?;
    let each: Vec<i32> = (0..images).map(|i| (i / classes.max(1)) as i32).collect();
    let each = n.int_vector(&each);
    let boxes = if images == batches { boxes } else { n.gather(boxes, each, 0)? };
    // Sorted by score, the higher first; equal ones by index.
    let mut order = op!(n, Argsort, x = scores, axis = 1, ascending = false)?;
    let mut sorted = op!(n, GatherAlongAxis, x = scores, indices = order, axis = 1)?;
    let threshold = match score_threshold {
        Some(t) => {
            let t = n.float_of(t.id)?;
            Some(n.scalar(t)?)
        }
        None => None,
    };
    if let Some(threshold) = threshold {
        let passes = n.greater(sorted, threshold)?;
        let passes = n.cast(passes, DType::Int32)?;
        let most = n.sum(passes, &[1], false)?;
        let most = n.reduce(ReduceMax, most, &[0], true)?;
        let most = n.max(most, 1.0)?;
        let shape = n.shape(&[Size::Fixed(images)])?;
        let size = n.concat(vec![shape, most], 0)?;
        order = op!(n, SliceBySize, x = order, begin = &[0, 0][..], size = size)?;
        sorted = op!(n, SliceBySize, x = sorted, begin = &[0, 0][..], size = size)?;
    }
    let candidates = match threshold {
        Some(threshold) => n.greater(sorted, threshold)?,
        None => n.equal(sorted, sorted)?,
    };
    let mut sides = Vec::with_capacity(4);
    for side in 0..4 {
        let side = n.take_one(boxes, 2, side)?;
        sides.push(op!(n, GatherAlongAxis, x = side, indices = order, axis = 1)?);
    }
    let [a, b, c, d] = sides[..] else { return Err(Error::malformed("boxes without four numbers")) };
    // y and x of two corners in any order, or x, y of the center, width, height.
    let [top, left, bottom, right] = if center {
        let (w, h) = (n.mul(c, 0.5)?, n.mul(d, 0.5)?);
        [n.sub(b, h)?, n.sub(a, w)?, n.add(b, h)?, n.add(a, w)?]
    } else {
        [n.min(a, c)?, n.min(b, d)?, n.max(a, c)?, n.max(b, d)?]
    };
    let height = n.sub(bottom, top)?;
    let width = n.sub(right, left)?;
    let area = n.mul(height, width)?;
    let most = match iou_threshold {
        Some(t) => {
            let t = n.float_of(t.id)?;
            n.scalar(t)?
        }
        None => n.constant(milwright_mil::Tensor::scalar(0.0f32)),
    };
    let candidates = n.cast(candidates, DType::Fp32)?;
    let kept = suppress(n, [top, left, bottom, right, area], most, candidates)?;
    // At most so many per class.
    let whole = n.cast(kept, DType::Int32)?;
    let rank_of = op!(n, Cumsum, x = whole, axis = 1)?;
    let few = n.less_equal(rank_of, limit)?;
    let kept = n.greater(kept, 0.5)?;
    let kept = n.and(kept, few)?;
    let kept = n.cast(kept, DType::Int32)?;
    let hits = op!(n, NonZero, x = kept)?;
    let image = n.take_one(hits, 1, 0)?;
    let batch = n.floor_div(image, classes as f64)?;
    let class = n.modulo(image, classes as f64)?;
    let index = op!(n, GatherNd, x = order, indices = hits)?;
    let columns =
        [batch, class, index].into_iter().map(|c| n.expand_dims(c, &[1])).collect::<Result<Vec<_>>>()?;
    let y = n.concat(columns, 1)?;
    one(y, Elem::Int64)
}

/// How much every box overlaps the one at a place: the common part in parts of both together. [images, boxes]
fn overlaps(n: &mut Lowering, sides: [ValueId; 5], at: ValueId) -> Result<ValueId> {
    let own = sides.map(|side| op!(n, Gather, x = side, indices = at, axis = 1));
    let [top, left, bottom, right, area] = sides;
    let [own_top, own_left, own_bottom, own_right, own_area] = own;
    let extent = |n: &mut Lowering, low: [ValueId; 2], high: [ValueId; 2]| -> Result<ValueId> {
        let (low, high) = (n.max(low[0], low[1])?, n.min(high[0], high[1])?);
        let extent = n.sub(high, low)?;
        n.max(extent, 0.0)
    };
    let height = extent(n, [top, own_top?], [bottom, own_bottom?])?;
    let width = extent(n, [left, own_left?], [right, own_right?])?;
    let inside = n.mul(height, width)?;
    let union = n.add(area, own_area?)?;
    let union = n.sub(union, inside)?;
    let empty = n.less_equal(union, 0.0)?;
    let union = n.select(empty, 1.0, union)?;
    let overlap = n.div(inside, union)?;
    n.select(empty, 0.0, overlap)
}

fn nothing(n: &mut Lowering) -> Result<Vec<V>> {
    let empty = n.int_tensor(&[0, 3], Vec::new())?;
    one(empty, Elem::Int64)
}

/// Goes through the boxes in order; each one that is left drops the later ones that it overlaps more than `most`. `sides` are
/// top, left, bottom, right and area, and `candidates` is 0 or 1, all [images, boxes].
fn suppress(n: &mut Lowering, sides: [ValueId; 5], most: ValueId, candidates: ValueId) -> Result<ValueId> {
    let count = n.size_value(&Size::Of(candidates, 1..2))?;
    let zero = n.constant(milwright_mil::Tensor::scalar(0i32));
    let places = n.range(count)?;
    let (cond, outer) = n.builder.enter();
    let i = n.builder.block_input("box", milwright_mil::Type::scalar(DType::Int32));
    let ty = milwright_mil::Type::Tensor(n.ty(candidates)?.clone());
    let alive = n.builder.block_input("alive", ty.clone());
    let more = n.less(i, count)?;
    n.builder.leave(outer, vec![more]);
    let _ = alive;
    let (body, outer) = n.builder.enter();
    let i = n.builder.block_input("box", milwright_mil::Type::scalar(DType::Int32));
    let alive = n.builder.block_input("alive", ty);
    let at = n.expand_dims(i, &[0])?;
    let overlap = overlaps(n, sides, at)?;
    let over = n.greater(overlap, most)?;
    let later = n.greater(places, i)?;
    let drops = n.and(over, later)?;
    let drops = n.cast(drops, DType::Fp32)?;
    let own = op!(n, Gather, x = alive, indices = at, axis = 1)?;
    let dropped = n.mul(drops, own)?;
    let stays = n.sub(1.0, dropped)?;
    let next = n.mul(alive, stays)?;
    let step = n.add(i, 1.0)?;
    n.builder.leave(outer, vec![step, next]);
    let inputs = vec![Input::values(param!(WhileLoop.loop_vars), vec![zero, candidates])];
    let label = n.label.clone();
    let results = n.builder.op_with_blocks(WhileLoop, &label, inputs, vec![cond, body])?;
    results.get(1).copied().ok_or_else(|| Error::malformed("a loop without results"))
}
