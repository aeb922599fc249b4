//! Gathering and scattering.

use milwright_mil::{DType, Opset, ValueId};

use super::cast;
use super::compose::{V, one};
use super::elem::Elem;
use super::node::Node;
use crate::Error;
use crate::lower::{Lowering, Result, Size, normalize, op};

/// Indices as MIL promises them: from 0 on. Negative ones count from the end.
pub(super) fn from_front(n: &mut Lowering, indices: ValueId, x: ValueId, axis: usize) -> Result<ValueId> {
    if let Some(known) = n.known_integers(indices) {
        if known.iter().all(|&i| i >= 0) {
            return Ok(indices);
        }
        if let Some(size) = n.dim(x, axis)?.fixed() {
            let fixed = known.iter().map(|&i| if i < 0 { i + size as i64 } else { i } as i32).collect();
            let shape = n.builder.known(indices).map(|t| t.shape().to_vec()).unwrap_or_default();
            return n.int_tensor(&shape, fixed);
        }
    }
    let size = n.size_value(&Size::Of(x, axis..axis + 1))?;
    let moved = n.add(indices, size)?;
    let negative = n.less(indices, 0.0)?;
    n.select(negative, moved, indices)
}

/// Runs a lowering with bools carried as int32, for ops that do not take bools.
pub(super) fn without_bool(
    n: &mut Lowering,
    x: ValueId,
    lower: impl FnOnce(&mut Lowering, ValueId) -> Result<ValueId>,
) -> Result<ValueId> {
    if n.dtype(x)? != DType::Bool {
        return lower(n, x);
    }
    let x = n.cast(x, DType::Int32)?;
    let y = lower(n, x)?;
    n.cast(y, DType::Bool)
}

fn no_strings(v: V) -> Result<()> {
    match v.elem {
        Elem::String => Err(Error::unsupported("strings").with_hint(cast::STRINGS)),
        _ => Ok(()),
    }
}

/// The indices may cover less of the other dimensions than the data: the data is cut to what they cover.
fn cut_to(n: &mut Lowering, mut x: ValueId, indices: ValueId, axis: usize) -> Result<ValueId> {
    let rank = n.rank(x)?;
    if n.rank(indices)? != rank {
        return Err(Error::malformed("indices of another rank than the data"));
    }
    for d in (0..rank).filter(|&d| d != axis) {
        let (own, wanted) = (n.dim(x, d)?, n.dim(indices, d)?);
        if own == wanted && own.fixed().is_some() {
            continue;
        }
        match wanted.fixed() {
            Some(wanted) => x = n.cut(x, d, 0, Some(wanted as i32))?,
            None => {
                let mut sizes = n.sizes_of(x)?;
                sizes[d] = Size::Of(indices, d..d + 1);
                let size = n.shape(&sizes)?;
                let begin = vec![0; rank];
                x = op!(n, SliceBySize, x = x, begin = &begin[..], size = size)?;
            }
        }
    }
    Ok(x)
}

pub(super) fn gather_elements(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, indices) = (n.need(0)?, n.need(1)?);
    no_strings(v)?;
    let axis = n.axis_or("axis", 0, v.id)?;
    let indices = from_front(n, indices.id, v.id, axis)?;
    let y = without_bool(n, v.id, |n, x| {
        let x = cut_to(n, x, indices, axis)?;
        op!(n, GatherAlongAxis, x = x, indices = indices, axis = axis as i32)
    })?;
    one(y, v.elem)
}

/// Each component of an index vector from the front, for dimensions from `first` on.
fn vectors_from_front(n: &mut Lowering, indices: ValueId, x: ValueId, first: usize) -> Result<ValueId> {
    if n.known_integers(indices).is_some_and(|k| k.iter().all(|&i| i >= 0)) {
        return Ok(indices);
    }
    let last =
        n.rank(indices)?.checked_sub(1).ok_or_else(|| Error::malformed("indices without dimensions"))?;
    let depth = n.size(indices, last)?;
    let sizes: Vec<Size> = (first..first + depth).map(|d| Size::Of(x, d..d + 1)).collect();
    if sizes.is_empty() {
        return Ok(indices);
    }
    let sizes = n.shape(&sizes)?;
    let moved = n.add(indices, sizes)?;
    let negative = n.less(indices, 0.0)?;
    n.select(negative, moved, indices)
}

pub(super) fn gather_nd(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, indices) = (n.need(0)?, n.need(1)?);
    no_strings(v)?;
    let batch = n.int_or("batch_dims", 0)?;
    let first = usize::try_from(batch).map_err(|_| Error::malformed("negative `batch_dims`"))?;
    let indices = vectors_from_front(n, indices.id, v.id, first)?;
    if first > 0 {
        n.needs(Opset::Ios16, "a GatherND with batches")?;
    }
    let y = without_bool(n, v.id, |n, x| match first {
        0 => op!(n, GatherNd, x = x, indices = indices),
        _ => op!(n, GatherNd, x = x, indices = indices, batch_dims = batch as i32),
    })?;
    one(y, v.elem)
}

/// What `reduction` means in MIL.
fn mode(n: &mut Node<'_, '_>) -> Result<&'static str> {
    Ok(match n.text_or("reduction", "none")? {
        "none" => "update",
        "add" => "add",
        "mul" => "mul",
        "max" => "max",
        "min" => "min",
        other => return Err(Error::malformed(format!("the reduction `{other}`"))),
    })
}

/// Scatter of single elements along an axis. MIL wants indices that cover the data's other dimensions; where they cover
/// less, only that part of the data takes part.
pub(super) fn scatter_elements(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, indices, updates) = (n.need(0)?, n.need(1)?, n.need(2)?);
    no_strings(v)?;
    let axis = n.axis_or("axis", 0, v.id)?;
    let mode = mode(n)?;
    let indices = from_front(n, indices.id, v.id, axis)?;
    let bool = v.elem == Elem::Bool;
    let (data, updates) = if bool {
        (n.cast(v.id, DType::Int32)?, n.cast(updates.id, DType::Int32)?)
    } else {
        (v.id, updates.id)
    };
    let rank = n.rank(data)?;
    let equal = (0..rank).filter(|&d| d != axis).all(
        |d| matches!((n.dim(data, d), n.dim(indices, d)), (Ok(a), Ok(b)) if a == b && a.fixed().is_some()),
    );
    let y = if equal {
        op!(
            n,
            ScatterAlongAxis,
            data = data,
            indices = indices,
            updates = updates,
            axis = axis as i32,
            mode = mode
        )?
    } else {
        scatter_places(n, data, indices, updates, axis, mode)?
    };
    let y = if bool { n.cast(y, DType::Bool)? } else { y };
    cast::finish(n, y, v.elem)
}

/// The scatter over the flat data, with the place of each element.
fn scatter_places(
    n: &mut Lowering,
    data: ValueId,
    indices: ValueId,
    updates: ValueId,
    axis: usize,
    mode: &str,
) -> Result<ValueId> {
    let rank = n.rank(data)?;
    if n.rank(indices)? != rank {
        return Err(Error::malformed("indices of another rank than the data"));
    }
    let mut place: Option<ValueId> = None;
    for d in 0..rank {
        let digit = if d == axis {
            indices
        } else {
            let range = n.range_to(&Size::Of(indices, d..d + 1))?;
            let axes: Vec<i32> = (1..(rank - d) as i32).collect();
            n.expand_dims(range, &axes)?
        };
        let stride = Size::Of(data, d + 1..rank);
        let part = match n.known_size(&stride) {
            Some(s) => n.mul(digit, s as f64)?,
            None => {
                let s = n.size_value(&stride)?;
                n.mul(digit, s)?
            }
        };
        place = Some(match place {
            Some(p) => n.add(p, part)?,
            None => part,
        });
    }
    let place = place.ok_or_else(|| Error::malformed("a scatter into a scalar"))?;
    let flat = n.reshape(data, &[-1])?;
    let place = n.reshape(place, &[-1])?;
    let updates = n.reshape(updates, &[-1])?;
    let y = op!(n, Scatter, data = flat, indices = place, updates = updates, axis = 0, mode = mode)?;
    let sizes = n.sizes_of(data)?;
    n.reshape_to(y, &sizes)
}

pub(super) fn scatter_nd(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, indices, updates) = (n.need(0)?, n.need(1)?, n.need(2)?);
    no_strings(v)?;
    let mode = mode(n)?;
    let indices = vectors_from_front(n, indices.id, v.id, 0)?;
    let bool = v.elem == Elem::Bool;
    let (data, updates) = if bool {
        (n.cast(v.id, DType::Int32)?, n.cast(updates.id, DType::Int32)?)
    } else {
        (v.id, updates.id)
    };
    let y = op!(n, ScatterNd, data = data, indices = indices, updates = updates, mode = mode)?;
    let y = if bool { n.cast(y, DType::Bool)? } else { y };
    cast::finish(n, y, v.elem)
}

/// Writes an update into a cache, for each sample from its own step on; `circular` starts over at the end.
pub(super) fn tensor_scatter(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (past, update, starts) = (n.need(0)?, n.need(1)?, n.opt(2)?);
    let rank = n.rank(past.id)?;
    let axis = n.axis_or("axis", -2, past.id)?;
    if axis == 0 {
        return Err(Error::malformed("the axis is the batch"));
    }
    let circular = match n.text_or("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => return Err(Error::malformed(format!("the mode `{other}`"))),
    };
    // For each sample and step of the cache: which step of the update belongs there, if any.
    let steps = n.range_to(&Size::Of(past.id, axis..axis + 1))?;
    let offset = match starts {
        Some(starts) => {
            let starts = n.expand_dims(starts.id, &[1])?;
            n.sub(steps, starts)?
        }
        None => {
            let steps = n.expand_dims(steps, &[0])?;
            n.broadcast_to(steps, &[Size::Of(past.id, 0..1), Size::Of(past.id, axis..axis + 1)])?
        }
    };
    let length = n.size_value(&Size::Of(past.id, axis..axis + 1))?;
    let count = n.size_value(&Size::Of(update.id, axis..axis + 1))?;
    let offset = if circular { n.modulo(offset, length)? } else { offset };
    let (from, to) = (n.greater_equal(offset, 0.0)?, n.less(offset, count)?);
    let inside = n.and(from, to)?;
    let chosen = n.select(inside, offset, 0.0)?;
    let axes: Vec<i32> = (1..axis as i32).chain(axis as i32 + 1..rank as i32).collect();
    let inside = n.expand_dims(inside, &axes)?;
    let chosen = n.expand_dims(chosen, &axes)?;
    let sizes: Vec<Size> = n.sizes_of(past.id)?;
    let chosen = n.broadcast_to(chosen, &sizes)?;
    let written = op!(n, GatherAlongAxis, x = update.id, indices = chosen, axis = axis as i32)?;
    let y = n.select(inside, written, past.id)?;
    one(y, past.elem)
}

/// The slices whose condition is true; without an axis, of the flat tensor.
pub(super) fn compress(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, condition) = (n.need(0)?, n.need(1)?);
    no_strings(v)?;
    let (data, axis) = match n.int("axis")? {
        Some(axis) => (v.id, n.axis(v.id, axis)?),
        None => (n.reshape(v.id, &[-1])?, 0),
    };
    let hits = op!(n, NonZero, x = condition.id)?;
    let places = n.squeeze(hits, &[1])?;
    let y = n.gather(data, places, axis)?;
    one(y, v.elem)
}

/// The off value and the on value are a vector that may be computed. Negative indices count from the depth; others out of
/// range leave the off value everywhere.
pub(super) fn one_hot(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (indices, depth, values) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let rank = n.rank(indices.id)?;
    let axis = normalize(n.int_or("axis", -1)?, rank + 1)?;
    let indices = n.int_of(indices.id)?;
    let depth = n.int_of(depth.id)?;
    let depth = n.scalar(depth)?;
    let moved = n.add(indices, depth)?;
    let negative = n.less(indices, 0.0)?;
    let indices = n.select(negative, moved, indices)?;
    let places = n.range(depth)?;
    let axes: Vec<i32> = (1..(rank - axis) as i32 + 1).collect();
    let places = n.expand_dims(places, &axes)?;
    let indices = n.expand_dims(indices, &[axis as i32])?;
    let hit = n.equal(indices, places)?;
    let off = n.take_one(values.id, 0, 0)?;
    let on = n.take_one(values.id, 0, 1)?;
    let y = n.select(hit, on, off)?;
    one(y, values.elem)
}
