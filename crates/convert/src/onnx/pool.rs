//! Pooling.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, Input, OpKind, Value, ValueId, param};

use super::cast;
use super::compose::{V, one};
use super::conv::{Pads, Window, custom};
use super::elem::Elem;
use super::node::Node;
use super::{layout, pad};
use crate::Error;
use crate::lower::{In, Lowering, Result, Size, i32_from, op, tensor_of};

/// A pooling's window with the rule for its last place.
struct Pool {
    window: Window,
    ceil: bool,
}

impl Pool {
    fn read(n: &mut Node<'_, '_>, x: ValueId) -> Result<Pool> {
        let kernel = n.ints("kernel_shape")?.ok_or_else(|| Error::malformed("`kernel_shape` is missing"))?;
        let rank = n.rank(x)?;
        if rank < 3 || kernel.len() != rank - 2 || kernel.iter().any(|&k| k < 1) {
            return Err(Error::malformed("`kernel_shape` does not fit the input"));
        }
        if rank > 5 {
            return Err(Error::unsupported("a pooling over more than three dimensions")
                .with_hint("Core ML pools over one, two or three: merge the others into the batch"));
        }
        let mut window = Window::read(n, kernel.iter().map(|&k| i32_from(k)).collect())?;
        window.settle(n, x);
        Ok(Pool { window, ceil: n.flag("ceil_mode", false)? })
    }

    fn dilated(&self) -> bool {
        self.window.dilations.iter().any(|&d| d != 1)
    }

    /// Whether the last window cannot reach beyond what MIL and ONNX agree on, whatever the sizes.
    fn plain(&self) -> bool {
        !self.ceil && !self.dilated()
    }

    /// The padding, and how many windows there are, for spatial sizes that are known.
    fn layout(&self, sizes: &[usize]) -> Result<Vec<Place>> {
        let pads = self.window.amounts(sizes);
        let same = matches!(self.window.pads, Pads::Same { .. });
        (0..sizes.len())
            .map(|d| {
                let (size, stride, extent) =
                    (sizes[d] as i64, i64::from(self.window.strides[d]), self.window.extent(d));
                let (before, after) = (i64::from(pads[d].0), i64::from(pads[d].1));
                let reach = size + before + after - extent;
                if reach < 0 {
                    return Err(Error::malformed("a window is larger than the padded input"));
                }
                let mut count =
                    if self.ceil && !same { (reach + stride - 1) / stride } else { reach / stride } + 1;
                // A window that would begin behind the input and its left padding is dropped.
                if self.ceil && (count - 1) * stride >= size + before {
                    count -= 1;
                }
                // What the last window covers beyond the padding.
                let beyond = ((count - 1) * stride + extent - (size + before + after)).max(0);
                Ok(Place { size, before, after, beyond, count })
            })
            .collect()
    }
}

/// The windows along one dimension.
struct Place {
    size: i64,
    before: i64,
    after: i64,
    beyond: i64,
    count: i64,
}

fn pool_op(
    n: &mut Lowering,
    kind: OpKind,
    x: ValueId,
    window: &Window,
    pads: Vec<Input>,
    exclude: Option<bool>,
) -> Result<ValueId> {
    let mut inputs = vec![
        Input::value(param!(MaxPool.x), x),
        In::from(&window.kernel[..]).named(param!(MaxPool.kernel_sizes)),
        In::from(&window.strides[..]).named(param!(MaxPool.strides)),
    ];
    inputs.extend(pads);
    if let Some(exclude) = exclude {
        inputs.push(Input::constant(param!(AvgPool.exclude_padding_from_average), Value::bool(exclude)));
    }
    n.op(kind, inputs)
}

/// Adds a number around the spatial dimensions.
fn padded(n: &mut Lowering, x: ValueId, amounts: &[(i64, i64)], with: f64) -> Result<ValueId> {
    if amounts.iter().all(|&a| a == (0, 0)) {
        return Ok(x);
    }
    let flat: Vec<i32> = amounts.iter().flat_map(|&(b, e)| [i32_from(b), i32_from(e)]).collect();
    let with = n.number(n.dtype(x)?, with)?;
    op!(n, Pad, x = x, pad = &flat[..], mode = "constant", constant_val = with)
}

pub(super) fn average_pool(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let y = averaged(n, v.id)?;
    cast::finish(n, y, v.elem)
}

/// The average of a value's windows, which the node's attributes state.
pub(super) fn averaged(n: &mut Node<'_, '_>, x: ValueId) -> Result<ValueId> {
    let pool = Pool::read(n, x)?;
    let counts_padding = n.flag("count_include_pad", false)?;
    average(n, x, &pool, counts_padding)
}

fn average(n: &mut Lowering, x: ValueId, pool: &Pool, counts_padding: bool) -> Result<ValueId> {
    let window = &pool.window;
    if pool.plain() {
        return pool_op(n, AvgPool, x, window, window.pad_inputs()?, Some(!counts_padding));
    }
    let sizes = n.spatial(x, "a pooling with `ceil_mode` or dilations")?;
    let places = pool.layout(&sizes)?;
    let around: Vec<(i64, i64)> = places.iter().map(|p| (p.before, p.after)).collect();
    let beyond: Vec<(i64, i64)> = places.iter().map(|p| (0, p.beyond)).collect();
    if !pool.dilated() {
        // Padding that counts is added as zeros; the rest is excluded from the average.
        let (x, pads) = if counts_padding {
            (padded(n, x, &around, 0.0)?, beyond)
        } else {
            (x, places.iter().map(|p| (p.before, p.after + p.beyond)).collect())
        };
        let pads: Vec<(i32, i32)> = pads.iter().map(|&(b, e)| (i32_from(b), i32_from(e))).collect();
        let y = pool_op(n, AvgPool, x, window, custom(&pads), Some(true))?;
        return trim(n, y, &places);
    }
    // The sum of a dilated window is a convolution with ones; the number of elements in it is one over ones.
    let dtype = n.dtype(x)?;
    let whole: Vec<(i64, i64)> = places.iter().map(|p| (p.before, p.after + p.beyond)).collect();
    let zeros = padded(n, x, &whole, 0.0)?;
    let sums = window_sums(n, zeros, window)?;
    let shape: Vec<usize> = [1, 1].into_iter().chain(sizes.iter().copied()).collect();
    let ones = vec![1.0; sizes.iter().product()];
    let mut mask = n.float_tensor(&shape, ones, dtype)?;
    if counts_padding {
        mask = padded(n, mask, &around, 1.0)?;
        mask = padded(n, mask, &beyond, 0.0)?;
    } else {
        mask = padded(n, mask, &whole, 0.0)?;
    }
    let counts = window_sums(n, mask, window)?;
    let y = n.div(sums, counts)?;
    trim(n, y, &places)
}

/// The sum over each window of each channel, without padding.
fn window_sums(n: &mut Lowering, x: ValueId, window: &Window) -> Result<ValueId> {
    let dtype = n.dtype(x)?;
    let rank = n.rank(x)?;
    let mut sizes = vec![Size::Of(x, 0..2), Size::Fixed(1)];
    sizes.extend((2..rank).map(|d| Size::Of(x, d..d + 1)));
    let single = n.reshape_to(x, &sizes)?;
    let mut shape = vec![1, 1];
    shape.extend(window.kernel.iter().map(|&k| k as usize));
    let ones = vec![1.0; shape.iter().product()];
    let weight = n.float_tensor(&shape, ones, dtype)?;
    let y = op!(
        n,
        Conv,
        x = single,
        weight = weight,
        strides = &window.strides[..],
        dilations = &window.dilations[..],
        pad_type = "valid"
    )?;
    let mut sizes = vec![Size::Of(x, 0..1), Size::Of(x, 1..2)];
    sizes.extend((2..rank).map(|d| Size::Of(y, d..d + 1)));
    n.reshape_to(y, &sizes)
}

/// Drops windows that MIL has and ONNX has not.
fn trim(n: &mut Lowering, mut y: ValueId, places: &[Place]) -> Result<ValueId> {
    for (d, place) in places.iter().enumerate() {
        if n.size(y, d + 2)? as i64 > place.count {
            y = n.cut(y, d + 2, 0, Some(i32_from(place.count)))?;
        }
    }
    Ok(y)
}

pub(super) fn max_pool(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    largest(n, v)
}

/// ONNX Runtime's pooling of codes with the channels last.
pub(super) fn nhwc_max_pool(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let x = layout::channels_second(n, v.id)?;
    let [y] = largest(n, V { id: x, elem: v.elem })?[..] else {
        return Err(Error::malformed("a pooling with several results"));
    };
    let y = layout::channels_last(n, y.id)?;
    one(y, v.elem)
}

/// The largest element of each of a value's windows, which the node's attributes state, and its place.
fn largest(n: &mut Node<'_, '_>, v: V) -> Result<Vec<V>> {
    // fp32 has all integers of 16 bits.
    if v.elem.int_range().is_some() && !n.wants(1) {
        let real = n.float_of(v.id)?;
        let [y] = largest(n, V { id: real, elem: Elem::Float })?[..] else {
            return Err(Error::malformed("a pooling with several results"));
        };
        let y = n.cast(y.id, DType::Int32)?;
        return one(y, v.elem);
    }
    let pool = Pool::read(n, v.id)?;
    let window = &pool.window;
    let float = n.dtype(v.id)?.is_float();
    if !n.wants(1) && float && pool.plain() {
        let y = pool_op(n, MaxPool, v.id, window, window.pad_inputs()?, None)?;
        return one(y, v.elem);
    }
    let sizes = n.spatial(v.id, "a pooling with `ceil_mode`, dilations or indices")?;
    let places = pool.layout(&sizes)?;
    if !n.wants(1) && float && !pool.dilated() {
        let pads: Vec<(i32, i32)> =
            places.iter().map(|p| (i32_from(p.before), i32_from(p.after + p.beyond))).collect();
        let y = pool_op(n, MaxPool, v.id, window, custom(&pads), None)?;
        let y = trim(n, y, &places)?;
        return one(y, v.elem);
    }
    let order = n.int_or("storage_order", 0)?;
    let (y, indices) = windows_max(n, v.id, window, &sizes, &places, order != 0)?;
    let mut results = vec![V { id: y, elem: v.elem }];
    if n.wants(1) {
        results.push(V { id: indices, elem: Elem::Int64 });
    }
    Ok(results)
}

/// Gathers every window as a row, and takes its largest element and that element's place in the input.
fn windows_max(
    n: &mut Lowering,
    x: ValueId,
    window: &Window,
    sizes: &[usize],
    places: &[Place],
    column_major: bool,
) -> Result<(ValueId, ValueId)> {
    let dims = sizes.len();
    let count: usize = places.iter().map(|p| p.count as usize).product();
    let taps: usize = window.kernel.iter().map(|&k| k as usize).product();
    let length: usize = sizes.iter().product();
    if count.checked_mul(taps).is_none_or(|c| c > 1 << 24) {
        return Err(Error::unsupported("the windows of this pooling are too many to list")
            .with_hint("pool without dilations and indices, or a smaller input"));
    }
    // For each window and tap, the element's place among those of a channel; outside of it, the place after the last.
    let mut table = Vec::with_capacity(count * taps);
    let mut named = Vec::with_capacity(count * taps);
    for window_index in 0..count {
        let mut rest = window_index;
        let mut starts = vec![0i64; dims];
        for d in (0..dims).rev() {
            let count = places[d].count as usize;
            starts[d] = (rest % count) as i64 * i64::from(window.strides[d]) - places[d].before;
            rest /= count;
        }
        for tap in 0..taps {
            let (mut rest, mut place, mut name, mut inside) = (tap, 0i64, 0i64, true);
            let mut offsets = vec![0i64; dims];
            for d in (0..dims).rev() {
                let kernel = window.kernel[d] as usize;
                offsets[d] = starts[d] + (rest % kernel) as i64 * i64::from(window.dilations[d]);
                rest /= kernel;
                inside &= (0..places[d].size).contains(&offsets[d]);
            }
            for d in 0..dims {
                place = place * sizes[d] as i64 + offsets[d];
                let back = dims - 1 - d;
                name = name * sizes[back] as i64 + offsets[back];
            }
            table.push(if inside { place as i32 } else { length as i32 });
            named.push(if column_major { name as i32 } else { place as i32 });
        }
    }
    let dtype = n.dtype(x)?;
    let flat = n.reshape_to(x, &[Size::Of(x, 0..2), Size::Fixed(length)])?;
    let lowest = if dtype.is_float() { f64::NEG_INFINITY } else { f64::from(i32::MIN) };
    let edge = n.full(&[Size::Of(x, 0..2), Size::Fixed(1)], lowest, dtype)?;
    let flat = n.concat(vec![flat, edge], 1)?;
    let table = n.int_tensor(&[count, taps], table)?;
    let rows = n.gather(flat, table, 1)?;
    let top = n.reduce(ReduceMax, rows, &[2], false)?;
    let best = op!(n, ReduceArgmax, x = rows, axis = 2, keep_dims = false)?;
    let starts: Vec<i32> = (0..count).map(|i| (i * taps) as i32).collect();
    let starts = n.int_vector(&starts);
    let which = n.add(best, starts)?;
    let named = n.constant(tensor_of(&[count * taps], named)?);
    let mut place = n.gather(named, which, 0)?;
    // The place counts over batch and channels, too.
    let planes = n.range_to(&Size::Of(x, 0..2))?;
    let planes = n.expand_dims(planes, &[1])?;
    let planes = n.mul(planes, length as f64)?;
    place = n.add(place, planes)?;
    let mut shape = vec![Size::Of(x, 0..1), Size::Of(x, 1..2)];
    shape.extend(places.iter().map(|p| Size::Fixed(p.count as usize)));
    Ok((n.reshape_to(top, &shape)?, n.reshape_to(place, &shape)?))
}

/// (Σ |x|^p)^(1/p) of each window.
pub(super) fn lp_pool(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let pool = Pool::read(n, v.id)?;
    let p = f64::from(exponent(n)?);
    let a = n.un(Abs, v.id)?;
    let powers = n.pow(a, p)?;
    let plain_pads = matches!(&pool.window.pads, Pads::Amounts(a) if a.iter().all(|&a| a == (0, 0)));
    let sums = if pool.plain() && plain_pads {
        window_sums(n, powers, &pool.window)?
    } else {
        let sizes = n.spatial(v.id, "a pooling with padding by norms")?;
        let places = pool.layout(&sizes)?;
        let amounts: Vec<(i64, i64)> = places.iter().map(|p| (p.before, p.after + p.beyond)).collect();
        let zeros = padded(n, powers, &amounts, 0.0)?;
        let sums = window_sums(n, zeros, &pool.window)?;
        trim(n, sums, &places)?
    };
    let y = n.pow(sums, 1.0 / p)?;
    cast::finish(n, y, v.elem)
}

fn exponent(n: &mut Node<'_, '_>) -> Result<f32> {
    // The attribute was a float in version 1.
    if n.opset < 2 {
        return n.float_or("p", 2.0);
    }
    Ok(n.int_or("p", 2)? as f32)
}

/// Reduces everything behind batch and channels.
pub(super) fn global(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let axes: Vec<usize> = (2..n.rank(v.id)?).collect();
    let y = match n.proto.op_type() {
        "GlobalAveragePool" => n.mean(v.id, &axes, true)?,
        "GlobalMaxPool" => n.reduce(ReduceMax, v.id, &axes, true)?,
        _ => {
            let p = f64::from(exponent(n)?);
            let a = n.un(Abs, v.id)?;
            let powers = n.pow(a, p)?;
            let sum = n.sum(powers, &axes, true)?;
            n.pow(sum, 1.0 / p)?
        }
    };
    cast::finish(n, y, v.elem)
}

/// Puts elements at the places that a pooling noted.
pub(super) fn max_unpool(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, indices) = (n.need(0)?, n.need(1)?);
    let pool = Pool::read(n, v.id)?;
    let given = n.need_shape(v.id, "MaxUnpool")?;
    let Pads::Amounts(pads) = &pool.window.pads else { return Err(Error::malformed("automatic padding")) };
    // The places count in the output that the pooling's parameters mean.
    let mut natural = vec![given[0], given[1]];
    for d in 0..pads.len() {
        let size = i64::from(pool.window.strides[d]) * (given[d + 2] as i64 - 1)
            + i64::from(pool.window.kernel[d])
            - i64::from(pads[d].0)
            - i64::from(pads[d].1);
        natural.push(usize::try_from(size).map_err(|_| Error::malformed("the padding is too large"))?);
    }
    let dtype = n.dtype(v.id)?;
    let total: usize = natural.iter().product();
    let zeros = n.full(&[Size::Fixed(total)], 0.0, dtype)?;
    let values = n.reshape(v.id, &[-1])?;
    let places = n.as_vector(indices.id)?;
    let y = op!(n, Scatter, data = zeros, indices = places, updates = values, axis = 0, mode = "update")?;
    let shape: Vec<i64> = natural.iter().map(|&s| s as i64).collect();
    let mut y = n.reshape(y, &shape)?;
    if !n.has(2) {
        return one(y, v.elem);
    }
    // A larger shape that is asked for adds zeros at the end.
    let known = n.known_ints(2);
    let wanted = match &known {
        Some(known) => known.clone(),
        None => vec![-1; natural.len()],
    };
    if wanted.len() != natural.len() {
        return Err(Error::malformed("`output_shape` has another rank than the input"));
    }
    for (d, (&size, &own)) in wanted.iter().zip(&natural).enumerate() {
        if size == own as i64 {
            continue;
        }
        let end = match known {
            Some(_) => n.int_vector(&[i32_from(size)]),
            None => {
                let shape = n.value(2)?;
                n.cut(shape, 0, d as i32, Some(d as i32 + 1))?
            }
        };
        let before = n.int_vector(&[0]);
        y = pad::gathered(n, y, d, before, end, "constant", pad::Fill::Number(0.0))?;
    }
    one(y, v.elem)
}
