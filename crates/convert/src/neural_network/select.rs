//! Sorting, searching, selecting.

use milwright_formats::proto::{
    ArgSortLayerParams, NonMaximumSuppressionLayerParams, OneHotLayerParams, TopKLayerParams,
};
use milwright_mil::{Input, OpKind, Value, ValueId, param};

use super::net::Net;
use crate::Error;
use crate::lower::{Result, Size, first, i32_from, i32_of, op, take};

pub(super) fn top_k(n: &mut Net, x: &[ValueId], p: &TopKLayerParams) -> Result<Vec<ValueId>> {
    let [value] = first(x)?;
    let value = n.float_of(value)?;
    let axis = n.axis(value, p.axis)?;
    let computed = x.get(1).copied();
    let k = match computed.map(|k| n.known_number(k)) {
        None => i32_of(p.k)?,
        Some(Some(k)) => i32_from(k as i64),
        // Sorts all of them; the first ones are taken below.
        Some(None) => i32_of(n.size(value, axis)? as u64)?,
    };
    let inputs = vec![
        Input::value(param!(Topk.x), value),
        Input::constant(param!(Topk.k), Value::int(k)),
        Input::constant(param!(Topk.axis), Value::int(axis as i32)),
        Input::constant(param!(Topk.ascending), Value::bool(p.use_bottom_k)),
    ];
    let results = n.ops(OpKind::Topk, inputs)?;
    let Some(k) = computed.filter(|&k| n.known_number(k).is_none()) else { return Ok(results) };
    let k = n.int_of(k)?;
    let k = n.reshape(k, &[1])?;
    let rank = n.rank(value)?;
    let (begin, mut parts) = (vec![0; rank], Vec::with_capacity(rank));
    for d in 0..rank {
        parts.push(if d == axis { k } else { n.shape(&[Size::Of(value, d..d + 1)])? });
    }
    let size = op!(n, Concat, values = parts, axis = 0)?;
    results.into_iter().map(|r| op!(n, SliceBySize, x = r, begin = &begin[..], size = size)).collect()
}

pub(super) fn arg(n: &mut Net, x: &[ValueId], kind: OpKind, axis: i64, remove_dim: bool) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let inputs = vec![
        Input::value(param!(ReduceArgmax.x), x),
        Input::constant(param!(ReduceArgmax.axis), Value::int(i32_from(axis))),
        Input::constant(param!(ReduceArgmax.keep_dims), Value::bool(!remove_dim)),
    ];
    n.op(kind, inputs)
}

pub(super) fn arg_sort(n: &mut Net, x: &[ValueId], p: &ArgSortLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    op!(n, Argsort, x = x, axis = i32_from(p.axis), ascending = !p.descending)
}

pub(super) fn one_hot(n: &mut Net, x: &[ValueId], p: &OneHotLayerParams) -> Result<ValueId> {
    let [indices] = first(x)?;
    let indices = n.int_of(indices)?;
    let (axis, on, off) = (i32_from(p.axis), p.on_value, p.off_value);
    match x.get(1) {
        Some(&size) => {
            let size = n.int_of(size)?;
            let size = n.scalar(size)?;
            op!(
                n,
                OneHot,
                indices = indices,
                one_hot_vector_size = size,
                axis = axis,
                on_value = on,
                off_value = off
            )
        }
        None => {
            let size = i32_of(p.one_hot_vector_size)?;
            op!(
                n,
                OneHot,
                indices = indices,
                one_hot_vector_size = size,
                axis = axis,
                on_value = on,
                off_value = off
            )
        }
    }
}

pub(super) fn where_non_zero(n: &mut Net, x: &[ValueId]) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    op!(n, NonZero, x = x)
}

pub(super) fn non_maximum_suppression(
    n: &mut Net,
    x: &[ValueId],
    p: &NonMaximumSuppressionLayerParams,
) -> Result<Vec<ValueId>> {
    let [boxes, scores] = first(x)?;
    let (boxes, scores) = (n.float_of(boxes)?, n.float_of(scores)?);
    let number = |i: usize, default: f64| match x.get(i) {
        Some(&value) => {
            n.known_number(value).ok_or_else(|| Error::unsupported("a threshold or number that is computed"))
        }
        None => Ok(default),
    };
    let overlap = number(2, p.iou_threshold.into())? as f32;
    let score = number(3, p.score_threshold.into())? as f32;
    let count = number(4, p.max_boxes as f64)? as i64;
    let inputs = vec![
        Input::value(param!(NonMaximumSuppression.boxes), boxes),
        Input::value(param!(NonMaximumSuppression.scores), scores),
        Input::constant(param!(NonMaximumSuppression.iou_threshold), Value::float(overlap)),
        Input::constant(param!(NonMaximumSuppression.score_threshold), Value::float(score)),
        Input::constant(param!(NonMaximumSuppression.max_boxes), Value::int(i32_from(count))),
        Input::constant(
            param!(NonMaximumSuppression.per_class_suppression),
            Value::bool(p.per_class_suppression),
        ),
    ];
    n.ops(OpKind::NonMaximumSuppression, inputs)
}

pub(super) fn band_part(n: &mut Net, x: &[ValueId], lower: i64, upper: i64) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    op!(n, BandPart, x = x, lower = i32_from(lower), upper = i32_from(upper))
}

/// Keeps the elements on diagonal `k` and those below it (or above it).
pub(super) fn triangle(n: &mut Net, x: &[ValueId], k: i64, below: bool) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let k = i32_from(k).clamp(-i32::MAX, i32::MAX);
    match (below, k) {
        (true, 0..) => op!(n, BandPart, x = x, lower = -1, upper = k),
        (false, ..=0) => op!(n, BandPart, x = x, lower = -k, upper = -1),
        // The elements to keep are off the main diagonal, so the elements to drop are a band.
        _ => {
            let shape = n.shape_of(x)?;
            let ones = op!(n, Fill, shape = shape, value = 1.0)?;
            let dropped = if below {
                op!(n, BandPart, x = ones, lower = -k - 1, upper = -1)?
            } else {
                op!(n, BandPart, x = ones, lower = -1, upper = k - 1)?
            };
            let dropped = n.bool_of(dropped)?;
            op!(n, Select, cond = dropped, a = 0.0, b = x)
        }
    }
}
