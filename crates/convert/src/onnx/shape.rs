//! Shapes: asking for them, changing them, and tensors that are made from them.

use milwright_mil::{DType, Dim, Tensor, ValueId};

use super::elem::Elem;
use super::item::{Item, Val};
use super::node::Node;
use super::stored::Stored;
use crate::Error;
use crate::lower::{Result, Size, i32_from, normalize, op, tensor_of};

/// `Constant`: one of its attributes is the value.
pub(super) fn constant(n: &mut Node<'_, '_>) -> Result<Val> {
    let stored = if let Some(stored) = n.tensor("value")? {
        stored
    } else if let Some(stored) = n.sparse_tensor("sparse_value")? {
        stored
    } else if let Some(x) = n.float("value_float")? {
        Stored::new(Elem::Float, Tensor::scalar(x))
    } else if let Some(x) = n.floats("value_floats")? {
        Stored::new(Elem::Float, tensor_of(&[x.len()], x.to_vec())?)
    } else if let Some(i) = n.int("value_int")? {
        Stored::new(Elem::Int64, Tensor::scalar(i))
    } else if let Some(i) = n.ints("value_ints")? {
        Stored::new(Elem::Int64, tensor_of(&[i.len()], i.to_vec())?)
    } else if let Some(text) = n.text("value_string")? {
        Stored::new(Elem::String, Tensor::string(text))
    } else if let Some(texts) = n.texts("value_strings")? {
        let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
        let tensor = Tensor::from_strings(&[texts.len()], texts);
        Stored::new(Elem::String, tensor.map_err(|e| Error::malformed(e.to_string()))?)
    } else {
        return Err(Error::malformed("it has no value"));
    };
    let name = n.label.clone();
    Ok(Val::constant(name, stored))
}

/// `Identity`, of anything that a name can refer to.
pub(super) fn identity(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    Ok(vec![n.item(0)?.clone()])
}

/// `Shape`, or a part of it since 15.
pub(super) fn shape(n: &mut Node<'_, '_>) -> Result<Val> {
    let (start, end) = (n.int_or("start", 0)?, n.int("end")?);
    let sizes: Vec<Dim> = match n.stored(0) {
        Some(stored) => stored.tensor.shape().iter().map(|&d| Dim::Fixed(d)).collect(),
        None => {
            let x = n.value(0)?;
            n.ty(x)?.shape.clone()
        }
    };
    let rank = sizes.len() as i64;
    let clamp = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let (start, end) = (clamp(start), clamp(end.unwrap_or(rank)));
    let part = sizes.get(start..end).unwrap_or_default();
    if let Some(known) = part.iter().map(|d| d.fixed()).collect::<Option<Vec<usize>>>() {
        let known: Vec<i64> = known.iter().map(|&n| n as i64).collect();
        let stored = Stored::new(Elem::Int64, tensor_of(&[known.len()], known)?);
        return Ok(Val::constant(n.label.clone(), stored));
    }
    let x = n.value(0)?;
    let whole = n.shape_of(x)?;
    let result = if part.len() == sizes.len() {
        whole
    } else {
        let (begin, end) = ([start as i32], [end as i32]);
        op!(n, SliceByIndex, x = whole, begin = &begin[..], end = &end[..])?
    };
    Ok(Val::new(Elem::Int64, result))
}

/// `Size`: the number of elements.
pub(super) fn size(n: &mut Node<'_, '_>) -> Result<Val> {
    let x = n.value(0)?;
    if let Some(count) = n.ty(x)?.elements() {
        let stored = Stored::new(Elem::Int64, Tensor::scalar(count as i64));
        return Ok(Val::constant(n.label.clone(), stored));
    }
    let shape = n.shape_of(x)?;
    Ok(Val::new(Elem::Int64, op!(n, ReduceProd, x = shape, axes = &[0][..], keep_dims = false)?))
}

/// `Reshape`. A 0 copies the dimension of the same place, unless `allowzero`; -1 takes what is left.
pub(super) fn reshape(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let allows_zero = n.flag("allowzero", false)?;
    let attribute = n.ints("shape")?.map(<[i64]>::to_vec);
    let wanted: Vec<Option<i64>> = match attribute {
        Some(shape) => shape.into_iter().map(Some).collect(),
        None => n.partial_ints(1).ok_or_else(unknown_length)?,
    };
    if let Some(stored) = n.stored(0)
        && let Some(known) = wanted.iter().copied().collect::<Option<Vec<i64>>>()
        && let Some(shape) = fixed_shape(stored.tensor.shape(), &known, allows_zero)
    {
        let tensor = stored.tensor.reshaped(&shape).map_err(|e| Error::malformed(e.to_string()))?;
        return Ok(Val::constant(n.label.clone(), Stored::new(elem, tensor)));
    }
    let x = n.value(0)?;
    if !wanted.is_empty() && wanted.iter().all(Option::is_none) {
        return Ok(Val::new(elem, reshape_by_value(n, x, wanted.len(), allows_zero)?));
    }
    let shape = if n.has(1) { Some(n.value(1)?) } else { None };
    let mut sizes = Vec::with_capacity(wanted.len());
    for (i, size) in wanted.iter().enumerate() {
        sizes.push(match (*size, shape) {
            (Some(0), _) if !allows_zero => {
                n.dim(x, i)?;
                Wanted::Size(Size::Of(x, i..i + 1))
            }
            (Some(-1), _) => Wanted::Rest,
            (Some(size), _) => {
                let wrong = || Error::malformed(format!("a shape with the size {size}"));
                Wanted::Size(Size::Fixed(usize::try_from(size).map_err(|_| wrong())?))
            }
            (None, Some(shape)) => Wanted::Size(Size::Element(shape, i)),
            (None, None) => return Err(unknown_length()),
        });
    }
    Ok(Val::new(elem, reshape_wanted(n, x, &sizes)?))
}

fn unknown_length() -> Error {
    Error::unsupported("the number of dimensions of its result is known only at run time")
        .with_hint("programs need a fixed number: export the model with shapes that are known in length")
}

/// A dimension of a new shape.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    Size(Size),
    /// What the others leave.
    Rest,
}

/// Reshapes a value. One size at most may be what the others leave.
pub(super) fn reshape_wanted(n: &mut Node<'_, '_>, x: ValueId, sizes: &[Wanted]) -> Result<ValueId> {
    let known: Vec<Option<usize>> = sizes
        .iter()
        .map(|size| match size {
            Wanted::Size(size) => n.known_size(size),
            Wanted::Rest => None,
        })
        .collect();
    // MIL takes a 0 for "copy".
    if known.contains(&Some(0)) {
        return empty(n, x, sizes);
    }
    let open = known.iter().filter(|size| size.is_none()).count();
    if open <= 1 {
        let shape: Vec<i64> = known.iter().map(|s| s.map_or(-1, |n| n as i64)).collect();
        return n.reshape(x, &shape);
    }
    // A size that turns out as 0 would copy a dimension, too: the first, which is a number of things, is left to be found.
    let first = match sizes.iter().any(|size| matches!(size, Wanted::Rest)) {
        true => None,
        false => known.iter().position(Option::is_none),
    };
    let mut parts = Vec::with_capacity(sizes.len());
    for (i, size) in sizes.iter().enumerate() {
        parts.push(match size {
            Wanted::Size(size) if first != Some(i) => n.shape(std::slice::from_ref(size))?,
            _ => n.int_vector(&[-1]),
        });
    }
    let shape = op!(n, Concat, values = parts, axis = 0)?;
    op!(n, Reshape, x = x, shape = shape)
}

/// A tensor without elements, in place of a reshaped one.
fn empty(n: &mut Node<'_, '_>, x: ValueId, sizes: &[Wanted]) -> Result<ValueId> {
    let zero = Size::Fixed(0);
    let sizes: Vec<Size> = sizes
        .iter()
        .map(|size| match size {
            Wanted::Size(size) => size.clone(),
            Wanted::Rest => zero.clone(),
        })
        .collect();
    let dtype = n.ty(x)?.dtype;
    let shape = n.shape(&sizes)?;
    n.filled(shape, dtype, 0.0)
}

/// Reshapes by a vector of which nothing is known but its length.
fn reshape_by_value(n: &mut Node<'_, '_>, x: ValueId, len: usize, allows_zero: bool) -> Result<ValueId> {
    let mut shape = n.value(1)?;
    if !allows_zero {
        let rank = n.rank(x)?;
        let own: Vec<Size> =
            (0..len).map(|i| if i < rank { Size::Of(x, i..i + 1) } else { Size::Fixed(1) }).collect();
        let own = n.shape(&own)?;
        let is_zero = op!(n, Equal, x = shape, y = 0)?;
        shape = op!(n, Select, cond = is_zero, a = own, b = shape)?;
    }
    // MIL takes a 0 for "copy", and finds a dimension without elements for -1.
    let is_zero = op!(n, Equal, x = shape, y = 0)?;
    let shape = op!(n, Select, cond = is_zero, a = -1, b = shape)?;
    op!(n, Reshape, x = x, shape = shape)
}

/// The shape after a reshape, if all is known and fits.
fn fixed_shape(old: &[usize], wanted: &[i64], allows_zero: bool) -> Option<Vec<usize>> {
    let count = old.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    let mut shape = Vec::with_capacity(wanted.len());
    let mut rest = None;
    for (i, &size) in wanted.iter().enumerate() {
        shape.push(match size {
            0 if !allows_zero => *old.get(i)?,
            -1 => {
                if rest.replace(i).is_some() {
                    return None;
                }
                1
            }
            size => usize::try_from(size).ok()?,
        });
    }
    let made = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    if let Some(i) = rest {
        shape[i] = count.checked_div(made)?;
    }
    (shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))? == count).then_some(shape)
}

/// `Flatten`: a matrix; its rows are the dimensions before the axis.
pub(super) fn flatten(n: &mut Node<'_, '_>) -> Result<ValueId> {
    let x = n.value(0)?;
    let rank = n.rank(x)?;
    let axis = n.int_or("axis", 1)?;
    // The axis may be one past the last.
    let axis = if axis == rank as i64 { rank } else { normalize(axis, rank)? };
    let (rows, columns) = (Size::Of(x, 0..axis), Size::Of(x, axis..rank));
    let known = (n.known_size(&rows), n.known_size(&columns));
    let sizes = match known {
        (None, _) => [Wanted::Rest, Wanted::Size(columns)],
        _ => [Wanted::Size(rows), Wanted::Size(columns)],
    };
    reshape_wanted(n, x, &sizes)
}

/// The axes of an op that has them as an attribute at first, and as an input since `input_since`.
fn axes(n: &mut Node<'_, '_>, input_since: u32) -> Result<Option<Vec<i64>>> {
    if n.opset >= input_since {
        return if n.has(1) { n.ints_of(1, "the axes").map(Some) } else { Ok(None) };
    }
    Ok(n.ints("axes")?.map(<[i64]>::to_vec))
}

/// `Squeeze`: without axes, every dimension that is known to have size 1.
pub(super) fn squeeze(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let axes = axes(n, 13)?;
    let x = n.value(0)?;
    let shape = n.ty(x)?.shape.clone();
    let rank = shape.len();
    let axes: Vec<usize> = match axes {
        Some(axes) => axes.iter().map(|&a| normalize(a, rank)).collect::<Result<_>>()?,
        None => {
            if shape.iter().any(|d| d.fixed().is_none()) {
                let label = n.label.clone();
                n.note(format!("`{label}` drops the dimensions of size 1: those of unknown size stay"));
            }
            (0..rank).filter(|&i| shape[i] == Dim::Fixed(1)).collect()
        }
    };
    if let Some(&axis) = axes.iter().find(|&&a| shape[a].fixed().is_some_and(|n| n != 1)) {
        return Err(Error::malformed(format!("dimension {axis} has size {}, not 1", shape[axis])));
    }
    if axes.is_empty() {
        return Ok(Val::new(elem, x));
    }
    let mut axes = axes;
    axes.sort_unstable();
    let result = if axes.iter().all(|&a| shape[a] == Dim::Fixed(1)) {
        let axes: Vec<i32> = axes.iter().map(|&a| a as i32).collect();
        op!(n, Squeeze, x = x, axes = &axes[..])?
    } else if n.squeezes_late {
        // Its only element: another size gives an index out of range.
        let mut value = x;
        for &axis in axes.iter().rev() {
            let size = n.shape(&[Size::Of(x, axis..axis + 1)])?;
            let size = n.scalar(size)?;
            let rest = op!(n, Sub, x = size, y = 1)?;
            let index = op!(n, Mul, x = rest, y = size)?;
            value = op!(n, Gather, x = value, indices = index, axis = axis as i32)?;
        }
        value
    } else {
        // MIL keeps a dimension whose size it does not know. A reshape to all other sizes fails if it is not 1; one of
        // them as "what is left" would not.
        let kept = (0..rank).filter(|i| !axes.contains(i));
        let sizes: Vec<Size> = kept.map(|i| Size::Of(x, i..i + 1)).collect();
        let shape = n.shape(&sizes)?;
        op!(n, Reshape, x = x, shape = shape)?
    };
    Ok(Val::new(elem, result))
}

/// `Unsqueeze`: inserts dimensions of size 1.
pub(super) fn unsqueeze(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let axes = axes(n, 13)?.ok_or_else(|| Error::malformed("it has no axes"))?;
    let x = n.value(0)?;
    let rank = n.rank(x)? + axes.len();
    let axes = axes.iter().map(|&a| Ok(normalize(a, rank)? as i32)).collect::<Result<Vec<i32>>>()?;
    if axes.is_empty() {
        return Ok(Val::new(elem, x));
    }
    Ok(Val::new(elem, op!(n, ExpandDims, x = x, axes = &axes[..])?))
}

/// `Transpose`: reverses the dimensions if it says no order.
pub(super) fn transpose(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let perm = n.ints("perm")?.map(<[i64]>::to_vec);
    let x = n.value(0)?;
    let rank = n.rank(x)?;
    let perm: Vec<i32> = match perm {
        Some(perm) => perm.iter().map(|&a| Ok(normalize(a, rank)? as i32)).collect::<Result<_>>()?,
        None => (0..rank as i32).rev().collect(),
    };
    if perm.iter().enumerate().all(|(i, &a)| i == a as usize) {
        return Ok(Val::new(elem, x));
    }
    Ok(Val::new(elem, op!(n, Transpose, x = x, perm = &perm[..])?))
}

/// `Expand`: broadcasts in both directions, so that a size of the wanted shape may also be 1.
pub(super) fn expand(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let wanted = n.partial_ints(1).ok_or_else(unknown_length)?;
    let x = n.value(0)?;
    let shape = n.ty(x)?.shape.clone();
    let rank = shape.len().max(wanted.len());
    let own = |i: usize| (i + shape.len()).checked_sub(rank).map_or(Dim::Fixed(1), |i| shape[i]);
    let new = |i: usize| (i + wanted.len()).checked_sub(rank).map_or(Some(1), |i| wanted[i]);
    // Where every repetition is known, the op that repeats says it best.
    let reps: Option<Vec<i32>> = (0..rank)
        .map(|i| match (own(i), new(i)) {
            (_, Some(1)) => Some(1),
            (Dim::Fixed(1), Some(n)) => i32::try_from(n).ok().filter(|&n| n > 0),
            (Dim::Fixed(a), Some(b)) if i64::try_from(a).ok() == Some(b) => Some(1),
            _ => None,
        })
        .collect();
    let result = match reps {
        Some(reps) if reps.iter().all(|&r| r == 1) && rank == shape.len() => x,
        Some(reps) => {
            let x = with_leading(n, x, rank)?;
            if reps.iter().all(|&r| r == 1) { x } else { op!(n, Tile, x = x, reps = &reps[..])? }
        }
        None => {
            let target = n.value(1)?;
            n.spread(x, target)?
        }
    };
    Ok(Val::new(elem, result))
}

/// Adds leading dimensions of size 1.
pub(super) fn with_leading(n: &mut Node<'_, '_>, x: ValueId, rank: usize) -> Result<ValueId> {
    let missing = rank.saturating_sub(n.rank(x)?);
    if missing == 0 {
        return Ok(x);
    }
    let axes: Vec<i32> = (0..missing as i32).collect();
    op!(n, ExpandDims, x = x, axes = &axes[..])
}

/// `Tile`; in version 1 along one axis.
pub(super) fn tile(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let x = n.value(0)?;
    let rank = n.rank(x)?;
    let known: Option<Vec<i64>> = if n.opset < 6 {
        let (tiles, axis) = (n.ints_of(1, "the number of tiles")?, n.ints_of(2, "the axis")?);
        let (&[tiles], &[axis]) = (&tiles[..], &axis[..]) else {
            return Err(Error::malformed("the number of tiles and the axis must be one number each"));
        };
        let mut reps = vec![1; rank];
        reps[normalize(axis, rank)?] = tiles;
        Some(reps)
    } else {
        n.known_ints(1)
    };
    let Some(reps) = known else {
        let reps = n.value(1)?;
        return Ok(Val::new(elem, op!(n, Tile, x = x, reps = reps)?));
    };
    if reps.len() != rank || reps.iter().any(|&r| r < 0) {
        return Err(Error::malformed(format!("the repetitions {reps:?} of a tensor of rank {rank}")));
    }
    if reps.contains(&0) {
        let size = |(i, &r): (usize, &i64)| if r == 0 { Size::Fixed(0) } else { Size::Of(x, i..i + 1) };
        let sizes: Vec<Size> = reps.iter().enumerate().map(size).collect();
        if reps.iter().any(|&r| r > 1) {
            return Err(Error::unsupported("repetitions of 0 beside others"));
        }
        let (shape, dtype) = (n.shape(&sizes)?, n.ty(x)?.dtype);
        return Ok(Val::new(elem, n.filled(shape, dtype, 0.0)?));
    }
    if reps.iter().all(|&r| r == 1) {
        return Ok(Val::new(elem, x));
    }
    let reps: Vec<i32> = reps.iter().map(|&r| i32_from(r)).collect();
    Ok(Val::new(elem, op!(n, Tile, x = x, reps = &reps[..])?))
}

/// `ConstantOfShape`: fp32 zeros if it says no value.
pub(super) fn constant_of_shape(n: &mut Node<'_, '_>) -> Result<Val> {
    let value = n.tensor("value")?;
    let (elem, number) = match &value {
        Some(stored) => {
            let numbers = stored.carried()?.to_f64();
            let &[number] = &numbers[..] else {
                return Err(Error::malformed("its value must have one element"));
            };
            (stored.elem, number)
        }
        None => (Elem::Float, 0.0),
    };
    let dtype = elem.carried()?;
    if n.partial_ints(0).is_none() {
        return Err(unknown_length());
    }
    // A shape without elements is that of a scalar.
    if n.known_ints(0).is_some_and(|shape| shape.is_empty()) {
        let scalar = scalar_of(dtype, number);
        return Ok(n.new_constant(elem, scalar));
    }
    let shape = n.value(0)?;
    Ok(Val::new(elem, n.filled(shape, dtype, number)?))
}

/// A scalar of a carrier.
pub(super) fn scalar_of(dtype: DType, number: f64) -> Tensor {
    match dtype {
        DType::Bool => Tensor::from_bools(&[], &[number != 0.0]).expect("one element fits a scalar"),
        DType::Int32 => Tensor::scalar(number as i32),
        DType::Fp16 => Tensor::scalar(half::f16::from_f64(number)),
        _ => Tensor::scalar(number as f32),
    }
}

/// `Range`: from the start to before the limit.
pub(super) fn range(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let numbers: Option<Vec<f64>> =
        (0..3).map(|i| n.known_numbers(i).and_then(|v| v.first().copied())).collect();
    if elem.is_float()
        && let Some(numbers) = numbers
    {
        // In double, as ONNX counts.
        let (start, limit, delta) = (numbers[0], numbers[1], numbers[2]);
        let count = ((limit - start) / delta).ceil().max(0.0);
        if count.is_nan() || count > MAX_RANGE {
            return Err(Error::unsupported(format!("a range of {count} real numbers")));
        }
        let value = |i: usize| start + i as f64 * delta;
        let values: Vec<f64> = (0..count as usize).map(value).collect();
        let tensor = match elem.carried()? {
            DType::Fp16 => {
                tensor_of(&[values.len()], values.iter().map(|&x| half::f16::from_f64(x)).collect())?
            }
            _ => tensor_of(&[values.len()], values.iter().map(|&x| x as f32).collect())?,
        };
        return Ok(n.new_constant(elem, tensor));
    }
    let mut ends = Vec::with_capacity(3);
    for i in 0..3 {
        let value = n.value(i)?;
        ends.push(n.scalar(value)?);
    }
    let [start, end, step] = ends[..] else { unreachable!("three were pushed") };
    Ok(Val::new(elem, op!(n, Range1d, start = start, end = end, step = step)?))
}

/// The most elements of a range that is computed at import.
const MAX_RANGE: f64 = (1u64 << 20) as f64;

/// `EyeLike`: ones on a diagonal.
pub(super) fn eye_like(n: &mut Node<'_, '_>) -> Result<Val> {
    let k = n.int_or("k", 0)?;
    let elem = match n.int("dtype")? {
        Some(code) => Elem::from_code(i32_from(code))?,
        None => n.elem(0)?,
    };
    let dtype = elem.carried()?;
    let x = n.value(0)?;
    if n.rank(x)? != 2 {
        return Err(Error::malformed("its input must be a matrix"));
    }
    let (rows, columns) = rows_and_columns(n, x)?;
    let shifted = op!(n, Add, x = rows, y = i32_from(k))?;
    let on = op!(n, Equal, x = shifted, y = columns)?;
    Ok(Val::new(elem, n.cast(on, dtype)?))
}

/// The numbers of the rows as a column, and those of the columns as a row, of the last two dimensions.
fn rows_and_columns(n: &mut Node<'_, '_>, x: ValueId) -> Result<(ValueId, ValueId)> {
    let rank = n.rank(x)?;
    let mut ranges = Vec::with_capacity(2);
    for axis in [rank - 2, rank - 1] {
        let size = n.shape(&[Size::Of(x, axis..axis + 1)])?;
        let size = n.scalar(size)?;
        let range = op!(n, Range1d, start = 0, end = size, step = 1)?;
        ranges.push(op!(n, ExpandDims, x = range, axes = &[if axis == rank - 2 { 1 } else { 0 }][..])?);
    }
    Ok((ranges[0], ranges[1]))
}

/// `Trilu`: keeps the upper or lower triangle.
pub(super) fn trilu(n: &mut Node<'_, '_>) -> Result<Val> {
    let elem = n.elem(0)?;
    let upper = n.flag("upper", true)?;
    let x = n.value(0)?;
    if n.rank(x)? < 2 {
        return Err(Error::malformed("its input must have at least two dimensions"));
    }
    let k = if n.has(1) { n.known_ints(1) } else { Some(vec![0]) };
    let k = k.and_then(|k| k.first().copied()).map(i32_from);
    match k {
        // The op keeps a band around the diagonal, which has to be within it.
        Some(k) if upper && k <= 0 => {
            return Ok(Val::new(elem, op!(n, BandPart, x = x, lower = -k, upper = -1)?));
        }
        Some(k) if !upper && k >= 0 => {
            return Ok(Val::new(elem, op!(n, BandPart, x = x, lower = -1, upper = k)?));
        }
        _ => {}
    }
    let (rows, columns) = rows_and_columns(n, x)?;
    let shifted = match k {
        Some(k) => op!(n, Add, x = rows, y = k)?,
        None => {
            let k = n.value(1)?;
            let k = n.scalar(k)?;
            op!(n, Add, x = rows, y = k)?
        }
    };
    let keep = match upper {
        true => op!(n, GreaterEqual, x = columns, y = shifted)?,
        false => op!(n, LessEqual, x = columns, y = shifted)?,
    };
    let zero = scalar_of(n.ty(x)?.dtype, 0.0);
    Ok(Val::new(elem, op!(n, Select, cond = keep, a = x, b = zero)?))
}

/// `DepthToSpace`, in both orders of channels.
pub(super) fn depth_to_space(n: &mut Node<'_, '_>) -> Result<Val> {
    let block = block_size(n)?;
    let mode = n.text_or("mode", "DCR")?;
    let (elem, x) = (n.elem(0)?, n.value(0)?);
    let is_float = n.ty(x)?.dtype.is_float();
    let result = match mode {
        "DCR" if is_float => op!(n, DepthToSpace, x = x, block_size = block)?,
        "CRD" if is_float => op!(n, PixelShuffle, x = x, upscale_factor = block)?,
        "DCR" | "CRD" => {
            let x = n.cast(x, DType::Fp32)?;
            let moved = match mode {
                "DCR" => op!(n, DepthToSpace, x = x, block_size = block)?,
                _ => op!(n, PixelShuffle, x = x, upscale_factor = block)?,
            };
            n.cast(moved, elem.carried()?)?
        }
        _ => return Err(Error::malformed(format!("the mode \"{mode}\""))),
    };
    Ok(Val::new(elem, result))
}

fn block_size(n: &mut Node<'_, '_>) -> Result<i32> {
    let block =
        n.int("blocksize")?.ok_or_else(|| Error::malformed("its attribute `blocksize` is missing"))?;
    let valid = i32::try_from(block).ok().filter(|&b| b > 0);
    valid.ok_or_else(|| Error::malformed(format!("the block size {block}")))
}
