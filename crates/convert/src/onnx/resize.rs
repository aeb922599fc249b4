//! Resizing: one dimension after the other, because interpolation is separable.
//!
//! Where sizes are known, the places and weights of the samples are constants, computed in double precision. Otherwise a run
//! computes them. Forms that Core ML has an op for use it.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, Tensor, ValueId};

use super::compose::{V, one};
use super::node::Node;
use crate::Error;
use crate::lower::{Lowering, Result, Size, i32_from, op};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// How samples are taken, for all dimensions.
struct Form {
    mode: Mode,
    /// Where a sample is: `coordinate_transformation_mode`.
    place: String,
    nearest: String,
    a: f64,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: f64,
}

/// A dimension to resize.
struct Axis {
    axis: usize,
    scale: Number,
    /// The new size.
    out: Number,
    /// The part of the dimension that is sampled, in shares of it, for `tf_crop_and_resize`.
    roi: Option<(Number, Number)>,
    /// Whether the size was given, not the scale: then the scale is the ratio of sizes.
    by_size: bool,
}

/// A number that is known, or a scalar that is computed (fp32, sizes int32).
#[derive(Clone, Copy, Debug)]
enum Number {
    Known(f64),
    Value(ValueId),
}

pub(super) fn resize(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let form = form(n)?;
    let rank = n.rank(x.id)?;
    let axes = match n.ints("axes")? {
        Some(axes) => axes.iter().map(|&a| n.axis(x.id, a)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    let (roi, scales, sizes) = if n.opset < 11 { (None, Some(1), None) } else { (Some(1), Some(2), Some(3)) };
    // An empty tensor stands for an input that is left out.
    let given = |n: &mut Node<'_, '_>, i: Option<usize>| -> Result<Option<usize>> {
        let Some(i) = i.filter(|&i| n.has(i)) else { return Ok(None) };
        if n.known_numbers(i).is_some_and(|k| k.is_empty()) {
            return Ok(None);
        }
        let v = n.value(i)?;
        Ok(if n.ty(v)?.elements() == Some(0) { None } else { Some(i) })
    };
    let policy = n.text_or("keep_aspect_ratio_policy", "stretch")?.to_owned();
    let crops = form.place == "tf_crop_and_resize";
    let regions = match given(n, roi)? {
        Some(i) if crops => Some(numbers(n, i, 2 * axes.len())?),
        _ if crops => return Err(Error::malformed("`roi` is missing")),
        _ => None,
    };
    let roi_of = |i: usize| regions.as_ref().map(|r| (r[i], r[i + axes.len()]));
    let mut plans = Vec::with_capacity(axes.len());
    match (given(n, sizes)?, given(n, scales)?) {
        (Some(i), _) => {
            let mut outs = numbers(n, i, axes.len())?;
            let mut common = None;
            if policy != "stretch" {
                let larger = match policy.as_str() {
                    "not_larger" => false,
                    "not_smaller" => true,
                    other => return Err(Error::malformed(format!("the policy `{other}`"))),
                };
                let scale = common_scale(n, x.id, &axes, &outs, larger)?;
                for (out, &axis) in outs.iter_mut().zip(&axes) {
                    *out = scaled_size(n, x.id, axis, scale)?;
                }
                common = Some(scale);
            }
            for (i, (&axis, &out)) in axes.iter().zip(&outs).enumerate() {
                let scale = match common {
                    Some(scale) => scale,
                    None => ratio(n, x.id, axis, out)?,
                };
                let by_size = common.is_none();
                plans.push(Axis { axis, scale, out, roi: roi_of(i), by_size });
            }
        }
        (None, Some(i)) => {
            let scales = numbers(n, i, axes.len())?;
            for (i, (&axis, &scale)) in axes.iter().zip(&scales).enumerate() {
                let roi = roi_of(i);
                let out = floor_size(n, x.id, axis, scale, roi)?;
                plans.push(Axis { axis, scale, out, roi, by_size: false });
            }
        }
        (None, None) => return Err(Error::malformed("neither scales nor sizes are given")),
    }
    let y = run(n, x.id, &form, plans)?;
    one(y, x.elem)
}

/// The older op: samples at i / scale, of which nearest takes the one before.
pub(super) fn upsample(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let rank = n.rank(x.id)?;
    let scales: Vec<Number> = if n.opset < 7 {
        let (h, w) = (n.float("height_scale")?, n.float("width_scale")?);
        let (Some(h), Some(w)) = (h, w) else { return Err(Error::malformed("a scale is missing")) };
        let mut all = vec![Number::Known(1.0); rank.saturating_sub(2)];
        all.extend([Number::Known(h.into()), Number::Known(w.into())]);
        all
    } else if n.opset < 9 {
        let scales = n.floats("scales")?.ok_or_else(|| Error::malformed("`scales` is missing"))?;
        scales.iter().map(|&s| Number::Known(s.into())).collect()
    } else {
        numbers(n, 1, rank)?
    };
    if scales.len() != rank {
        return Err(Error::malformed(format!("{} scales for {rank} dimensions", scales.len())));
    }
    let mode = match n.text_or("mode", "nearest")? {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        other => return Err(Error::malformed(format!("the mode `{other}`"))),
    };
    let form = Form {
        mode,
        place: "asymmetric".into(),
        nearest: "floor".into(),
        a: -0.75,
        exclude_outside: false,
        antialias: false,
        extrapolation: 0.0,
    };
    let mut plans = Vec::with_capacity(rank);
    for (axis, &scale) in scales.iter().enumerate() {
        let out = floor_size(n, x.id, axis, scale, None)?;
        plans.push(Axis { axis, scale, out, roi: None, by_size: false });
    }
    let y = run(n, x.id, &form, plans)?;
    one(y, x.elem)
}

fn form(n: &mut Node<'_, '_>) -> Result<Form> {
    let mode = match n.text_or("mode", "nearest")? {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        "cubic" => Mode::Cubic,
        other => return Err(Error::malformed(format!("the mode `{other}`"))),
    };
    let old = n.opset < 11;
    let place = n.text_or("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" })?;
    let nearest = n.text_or("nearest_mode", if old { "floor" } else { "round_prefer_floor" })?;
    let known = [
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_half_pixel_for_nn",
        "tf_crop_and_resize",
    ];
    if !known.contains(&place) {
        return Err(Error::malformed(format!("the coordinates `{place}`")));
    }
    if !["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"].contains(&nearest) {
        return Err(Error::malformed(format!("the rounding `{nearest}`")));
    }
    Ok(Form {
        mode,
        place: place.to_owned(),
        nearest: nearest.to_owned(),
        a: n.float_or("cubic_coeff_a", -0.75)?.into(),
        exclude_outside: n.flag("exclude_outside", false)?,
        antialias: n.flag("antialias", false)?,
        extrapolation: n.float_or("extrapolation_value", 0.0)?.into(),
    })
}

/// The numbers of an input, one for each of `count` dimensions. Sizes stay int32.
fn numbers(n: &mut Node<'_, '_>, i: usize, count: usize) -> Result<Vec<Number>> {
    if let Some(known) = n.known_numbers(i) {
        if known.len() != count {
            return Err(Error::malformed(format!("{} numbers in its input {i}, not {count}", known.len())));
        }
        return Ok(known.into_iter().map(Number::Known).collect());
    }
    let vector = n.value(i)?;
    let partial = n.builder.partial(vector).unwrap_or_else(|| vec![None; count]);
    let mut all = Vec::with_capacity(count);
    for at in 0..count {
        all.push(match partial.get(at).copied().flatten() {
            Some(known) => Number::Known(known as f64),
            None => {
                let v = n.take_one(vector, 0, at as i32)?;
                Number::Value(if n.dtype(v)?.is_float() { n.float_of(v)? } else { v })
            }
        });
    }
    Ok(all)
}

impl Number {
    fn known(self) -> Option<f64> {
        match self {
            Number::Known(c) => Some(c),
            Number::Value(_) => None,
        }
    }

    /// As a scalar of fp32.
    fn float(self, n: &mut Lowering) -> Result<ValueId> {
        match self {
            Number::Known(c) => Ok(n.constant(Tensor::scalar(c as f32))),
            Number::Value(v) => n.float_of(v),
        }
    }

    /// As a scalar of int32.
    fn int(self, n: &mut Lowering) -> Result<ValueId> {
        match self {
            Number::Known(c) => Ok(n.constant(Tensor::scalar(c as i32))),
            Number::Value(v) => n.cast(v, DType::Int32),
        }
    }
}

/// The size of a dimension.
fn own_size(n: &mut Lowering, x: ValueId, axis: usize) -> Result<Number> {
    match n.dim(x, axis)?.fixed() {
        Some(size) => Ok(Number::Known(size as f64)),
        None => Ok(Number::Value(n.size_value(&Size::Of(x, axis..axis + 1))?)),
    }
}

fn ratio(n: &mut Lowering, x: ValueId, axis: usize, out: Number) -> Result<Number> {
    let size = own_size(n, x, axis)?;
    if let (Some(out), Some(size)) = (out.known(), size.known()) {
        return Ok(Number::Known(out / size));
    }
    let (out, size) = (out.float(n)?, size.float(n)?);
    Ok(Number::Value(n.div(out, size)?))
}

fn common_scale(
    n: &mut Lowering,
    x: ValueId,
    axes: &[usize],
    outs: &[Number],
    larger: bool,
) -> Result<Number> {
    let mut best: Option<Number> = None;
    for (&axis, &out) in axes.iter().zip(outs) {
        let scale = ratio(n, x, axis, out)?;
        best = Some(match (best, scale) {
            (None, scale) => scale,
            (Some(Number::Known(a)), Number::Known(b)) => {
                Number::Known(if larger { a.max(b) } else { a.min(b) })
            }
            (Some(a), b) => {
                let (a, b) = (a.float(n)?, b.float(n)?);
                Number::Value(if larger { n.max(a, b)? } else { n.min(a, b)? })
            }
        });
    }
    best.ok_or_else(|| Error::malformed("no dimension is resized"))
}

/// The size times a scale, halves rounded up.
fn scaled_size(n: &mut Lowering, x: ValueId, axis: usize, scale: Number) -> Result<Number> {
    let size = own_size(n, x, axis)?;
    if let (Some(scale), Some(size)) = (scale.known(), size.known()) {
        return Ok(Number::Known((scale * size + 0.5).floor()));
    }
    let (scale, size) = (scale.float(n)?, size.float(n)?);
    let product = n.mul(scale, size)?;
    let product = n.add(product, 0.5)?;
    let product = n.un(Floor, product)?;
    Ok(Number::Value(n.cast(product, DType::Int32)?))
}

/// ⌊size · (end - start) · scale⌋
fn floor_size(
    n: &mut Lowering,
    x: ValueId,
    axis: usize,
    scale: Number,
    roi: Option<(Number, Number)>,
) -> Result<Number> {
    let size = own_size(n, x, axis)?;
    let share = match roi {
        None => Number::Known(1.0),
        Some((Number::Known(start), Number::Known(end))) => Number::Known(end - start),
        Some((start, end)) => {
            let (start, end) = (start.float(n)?, end.float(n)?);
            Number::Value(n.sub(end, start)?)
        }
    };
    if let (Some(size), Some(share), Some(scale)) = (size.known(), share.known(), scale.known()) {
        // A scale is fp32 in the file: 1.1 of 10 is 11.
        return Ok(Number::Known((size * share * scale + 1e-7 * size * scale.abs()).floor()));
    }
    // A scale of 1 keeps the size, and what is known of it.
    if scale.known() == Some(1.0) && share.known() == Some(1.0) {
        return Ok(size);
    }
    if let (Some(scale), Some(1.0), Number::Value(size)) = (scale.known(), share.known(), size)
        && scale.fract() == 0.0
    {
        return Ok(Number::Value(n.mul(size, scale)?));
    }
    let (size, share, scale) = (size.float(n)?, share.float(n)?, scale.float(n)?);
    let product = n.mul(size, share)?;
    let product = n.mul(product, scale)?;
    let product = n.un(Floor, product)?;
    Ok(Number::Value(n.cast(product, DType::Int32)?))
}

fn run(n: &mut Node<'_, '_>, x: ValueId, form: &Form, plans: Vec<Axis>) -> Result<ValueId> {
    let dtype = n.dtype(x)?;
    if !dtype.is_float() && form.mode != Mode::Nearest {
        return Err(Error::unsupported("an interpolation of integers")
            .with_hint("cast the input to float before, and round after"));
    }
    // A dimension that stays the same needs nothing.
    let mut rest = Vec::with_capacity(plans.len());
    for plan in plans {
        let size = n.dim(x, plan.axis)?.fixed().map(|s| s as f64);
        let whole = match plan.roi {
            None => true,
            Some((a, b)) => a.known() == Some(0.0) && b.known() == Some(1.0),
        };
        let same = size.is_some() && plan.out.known() == size && plan.scale.known() == Some(1.0)
            || plan.scale.known() == Some(1.0) && !plan.by_size;
        if !(whole && same) {
            rest.push(plan);
        }
    }
    if let Some(y) = native(n, x, form, &rest)? {
        return Ok(y);
    }
    let mut y = x;
    for plan in &rest {
        y = along(n, y, form, plan)?;
    }
    Ok(y)
}

/// Images for which Core ML has an op.
fn native(n: &mut Node<'_, '_>, x: ValueId, form: &Form, plans: &[Axis]) -> Result<Option<ValueId>> {
    let rank = n.rank(x)?;
    if rank != 4 || plans.is_empty() || form.antialias || !n.dtype(x)?.is_float() {
        return Ok(None);
    }
    if plans.iter().any(|p| p.axis < 2) {
        return Ok(None);
    }
    // For height and width: scale and new size.
    let mut scales = [Some(1.0), Some(1.0)];
    let mut outs = [n.dim(x, 2)?.fixed(), n.dim(x, 3)?.fixed()];
    let mut exact = true;
    for plan in plans {
        let d = plan.axis - 2;
        scales[d] = plan.scale.known();
        outs[d] = plan.out.known().map(|o| o as usize);
        let size = n.dim(x, plan.axis)?.fixed();
        // Core ML's positions follow from the sizes.
        exact &= plan.by_size
            || match (plan.scale.known(), size, plan.out.known()) {
                (Some(scale), Some(size), Some(out)) => {
                    (scale * size as f64 - out).abs() < 1e-6 * out.max(1.0)
                }
                (Some(scale), None, _) => scale.fract() == 0.0,
                _ => false,
            };
    }
    if !exact || outs.contains(&Some(0)) {
        return Ok(None);
    }
    let whole = |s: Option<f64>| s.filter(|s| s.fract() == 0.0 && *s >= 1.0).map(|s| s as f32);
    let half = matches!(form.place.as_str(), "half_pixel" | "pytorch_half_pixel" | "half_pixel_symmetric");
    match form.mode {
        Mode::Nearest => {
            // Whole scales repeat elements, and half-pixel places never lie halfway.
            let repeats = form.place == "asymmetric" && form.nearest == "floor"
                || half && form.nearest.starts_with("round");
            if let (true, Some(h), Some(w)) = (repeats, whole(scales[0]), whole(scales[1])) {
                let y =
                    op!(n, UpsampleNearestNeighbor, x = x, scale_factor_height = h, scale_factor_width = w)?;
                return Ok(Some(y));
            }
            Ok(None)
        }
        Mode::Linear => {
            let sampling = match form.place.as_str() {
                _ if half && (form.place != "pytorch_half_pixel" || !outs.contains(&Some(1))) => {
                    "UNALIGN_CORNERS"
                }
                "align_corners" => "STRICT_ALIGN_CORNERS",
                "asymmetric" => "DEFAULT",
                _ => return Ok(None),
            };
            let (Some(h), Some(w)) = (outs[0], outs[1]) else { return Ok(None) };
            let y = op!(
                n,
                ResizeBilinear,
                x = x,
                target_size_height = i32_from(h as i64),
                target_size_width = i32_from(w as i64),
                sampling_mode = sampling
            )?;
            Ok(Some(y))
        }
        Mode::Cubic => Ok(None),
    }
}

/// Resizes one dimension.
fn along(n: &mut Lowering, x: ValueId, form: &Form, plan: &Axis) -> Result<ValueId> {
    let size = own_size(n, x, plan.axis)?;
    let known = (size.known(), plan.out.known(), plan.scale.known());
    let roi = match plan.roi {
        None => Some((0.0, 1.0)),
        Some((a, b)) => a.known().zip(b.known()),
    };
    match (known, roi) {
        ((Some(size), Some(out), Some(scale)), Some(roi)) => {
            if out == 0.0 {
                return n.cut(x, plan.axis, 0, Some(0));
            }
            let places = places(form, size, out, scale, roi);
            sampled(n, x, form, plan, &places, size, scale)
        }
        _ => computed(n, x, form, plan, size),
    }
}

/// Where the samples of a dimension are.
fn places(form: &Form, size: f64, out: f64, scale: f64, (start, end): (f64, f64)) -> Vec<f64> {
    let width = scale * size;
    (0..out as usize)
        .map(|i| i as f64)
        .map(|i| match form.place.as_str() {
            "align_corners" if width == 1.0 => 0.0,
            "align_corners" => i * (size - 1.0) / (width - 1.0),
            "asymmetric" => i / scale,
            "tf_half_pixel_for_nn" => (i + 0.5) / scale,
            "tf_crop_and_resize" => {
                let along = if width == 1.0 {
                    (end - start) * (size - 1.0) / 2.0
                } else {
                    i * (end - start) * (size - 1.0) / (width - 1.0)
                };
                along + start * (size - 1.0)
            }
            "pytorch_half_pixel" if width == 1.0 => -0.5,
            "half_pixel_symmetric" => size / 2.0 * (1.0 - out / width) + (i + 0.5) / scale - 0.5,
            _ => (i + 0.5) / scale - 0.5,
        })
        .collect()
}

/// The weight of an element at a distance from a sample.
fn kernel(form: &Form, distance: f64) -> f64 {
    let (x, a) = (distance.abs(), form.a);
    match form.mode {
        Mode::Cubic if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        Mode::Cubic if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
        Mode::Cubic => 0.0,
        _ => (1.0 - x).max(0.0),
    }
}

/// Samples at places that are known.
fn sampled(
    n: &mut Lowering,
    x: ValueId,
    form: &Form,
    plan: &Axis,
    places: &[f64],
    size: f64,
    scale: f64,
) -> Result<ValueId> {
    let (axis, dtype) = (plan.axis, n.dtype(x)?);
    let rank = n.rank(x)?;
    let last = size as i64 - 1;
    let outside: Vec<bool> = places.iter().map(|&p| p < 0.0 || p > size - 1.0).collect();
    let gather = |n: &mut Lowering, of: &dyn Fn(f64) -> i64| {
        let indices: Vec<i32> = places.iter().map(|&p| of(p).clamp(0, last) as i32).collect();
        let indices = n.int_vector(&indices);
        n.gather(x, indices, axis)
    };
    let y = if form.mode == Mode::Nearest {
        let rounded = |p: f64| match form.nearest.as_str() {
            "floor" => p.floor(),
            "ceil" => p.ceil(),
            "round_prefer_ceil" => (p + 0.5).floor(),
            _ => (p - 0.5).ceil(),
        } as i64;
        gather(n, &rounded)?
    } else if form.antialias && scale < 1.0 {
        // A product with the matrix of all weights.
        let mut weights = vec![0f32; places.len() * size as usize];
        let support = if form.mode == Mode::Cubic { 2.0 } else { 1.0 };
        for (i, &p) in places.iter().enumerate() {
            let (from, to) = ((p - support / scale).floor() as i64, (p + support / scale).ceil() as i64);
            let taps: Vec<(i64, f64)> =
                (from..=to).map(|j| (j, kernel(form, scale * (j as f64 - p)))).collect();
            let kept = taps.iter().filter(|(j, _)| !form.exclude_outside || (0..=last).contains(j));
            let total: f64 = kept.clone().map(|(_, w)| w).sum();
            for &(j, w) in kept {
                weights[i * size as usize + j.clamp(0, last) as usize] += (w / total) as f32;
            }
        }
        let matrix = n.float_tensor(&[places.len(), size as usize], weights, dtype)?;
        let mut order: Vec<usize> = (0..rank).filter(|&d| d != axis).collect();
        order.push(axis);
        let back: Vec<usize> =
            (0..rank).map(|d| order.iter().position(|&o| o == d).expect("a permutation")).collect();
        let rows = n.transpose(x, &order)?;
        let y = n.matmul(rows, matrix, false, true)?;
        n.transpose(y, &back)?
    } else {
        let offsets: &[i64] = if form.mode == Mode::Cubic { &[-1, 0, 1, 2] } else { &[0, 1] };
        let mut sum: Option<ValueId> = None;
        for &offset in offsets {
            let values = gather(n, &|p| p.floor() as i64 + offset)?;
            let weights: Vec<f32> = places
                .iter()
                .map(|&p| {
                    let weight = |o: i64| {
                        let j = p.floor() as i64 + o;
                        let kept = !form.exclude_outside || (0..=last).contains(&j);
                        if kept { kernel(form, p - j as f64) } else { 0.0 }
                    };
                    let total: f64 = offsets.iter().map(|&o| weight(o)).sum();
                    (weight(offset) / if form.exclude_outside { total } else { 1.0 }) as f32
                })
                .collect();
            if weights.iter().all(|&w| w == 0.0) {
                continue;
            }
            let shape: Vec<usize> =
                std::iter::once(places.len()).chain(std::iter::repeat_n(1, rank - axis - 1)).collect();
            let weights = n.float_tensor(&shape, weights, dtype)?;
            let part = n.mul(values, weights)?;
            sum = Some(match sum {
                Some(sum) => n.add(sum, part)?,
                None => part,
            });
        }
        sum.ok_or_else(|| Error::malformed("samples without weights"))?
    };
    if form.place != "tf_crop_and_resize" || !outside.contains(&true) {
        return Ok(y);
    }
    let shape: Vec<usize> =
        std::iter::once(places.len()).chain(std::iter::repeat_n(1, rank - axis - 1)).collect();
    let mask = Tensor::from_bools(&shape, &outside).map_err(|e| Error::malformed(e.to_string()))?;
    let mask = n.constant(mask);
    n.select(mask, form.extrapolation, y)
}

/// Samples at places that a run computes.
fn computed(n: &mut Lowering, x: ValueId, form: &Form, plan: &Axis, size: Number) -> Result<ValueId> {
    let (axis, dtype, rank) = (plan.axis, n.dtype(x)?, n.rank(x)?);
    let out = plan.out.int(n)?;
    let count = n.float_of(out)?;
    let scale = plan.scale.float(n)?;
    let whole = size.int(n)?;
    let size = size.float(n)?;
    let steps = n.range(out)?;
    let steps = n.float_of(steps)?;
    let top = n.sub(size, 1.0)?;
    let width = if plan.by_size { count } else { n.mul(scale, size)? };
    // i · scale' + …, dividing last, so that what is whole stays whole.
    let centered = |n: &mut Lowering| -> Result<ValueId> {
        let middle = n.add(steps, 0.5)?;
        let place = if plan.by_size {
            let product = n.mul(middle, size)?;
            n.div(product, count)?
        } else {
            n.div(middle, scale)?
        };
        n.sub(place, 0.5)
    };
    let single = n.equal(width, 1.0)?;
    let places = match form.place.as_str() {
        "align_corners" | "tf_crop_and_resize" => {
            let (start, share) = match plan.roi {
                Some((a, b)) => {
                    let (a, b) = (a.float(n)?, b.float(n)?);
                    (Some(a), Some(n.sub(b, a)?))
                }
                None => (None, None),
            };
            let reach = match share {
                Some(share) => n.mul(top, share)?,
                None => top,
            };
            let less = n.sub(width, 1.0)?;
            let less = n.select(single, 1.0, less)?;
            let along = n.mul(steps, reach)?;
            let along = n.div(along, less)?;
            let alone = match share {
                Some(_) => n.mul(reach, 0.5)?,
                None => n.mul(reach, 0.0)?,
            };
            let along = n.select(single, alone, along)?;
            match start {
                Some(start) => {
                    let start = n.mul(start, top)?;
                    n.add(along, start)?
                }
                None => along,
            }
        }
        "asymmetric" => {
            if plan.by_size {
                let product = n.mul(steps, size)?;
                n.div(product, count)?
            } else {
                n.div(steps, scale)?
            }
        }
        "tf_half_pixel_for_nn" => {
            let middle = n.add(steps, 0.5)?;
            n.div(middle, scale)?
        }
        "half_pixel_symmetric" => {
            let share = n.div(count, width)?;
            let rest = n.sub(1.0, share)?;
            let half = n.mul(size, 0.5)?;
            let offset = n.mul(half, rest)?;
            let place = centered(n)?;
            n.add(place, offset)?
        }
        "pytorch_half_pixel" => {
            let place = centered(n)?;
            n.select(single, -0.5, place)?
        }
        _ => centered(n)?,
    };
    let last = n.sub(whole, 1.0)?;
    let axes: Vec<i32> = (1..(rank - axis) as i32).collect();
    let at = |n: &mut Lowering, index: ValueId| -> Result<ValueId> {
        let index = n.cast(index, DType::Int32)?;
        let index = n.max(index, 0.0)?;
        let index = n.min(index, last)?;
        n.gather(x, index, axis)
    };
    let y = if form.mode == Mode::Nearest {
        let rounded = match form.nearest.as_str() {
            "floor" => n.un(Floor, places)?,
            "ceil" => n.un(Ceil, places)?,
            "round_prefer_ceil" => {
                let up = n.add(places, 0.5)?;
                n.un(Floor, up)?
            }
            _ => {
                let down = n.sub(places, 0.5)?;
                n.un(Ceil, down)?
            }
        };
        at(n, rounded)?
    } else if form.antialias {
        widened(n, x, form, plan, places, scale, last)?
    } else {
        let base = n.un(Floor, places)?;
        let offsets: &[f64] = if form.mode == Mode::Cubic { &[-1.0, 0.0, 1.0, 2.0] } else { &[0.0, 1.0] };
        let mut parts = Vec::with_capacity(offsets.len());
        let mut total: Option<ValueId> = None;
        for &offset in offsets {
            let index = n.add(base, offset)?;
            let distance = n.sub(places, index)?;
            let mut weight = kernel_of(n, form, distance)?;
            if form.exclude_outside {
                let (low, high) = (n.greater_equal(index, 0.0)?, n.less_equal(index, top)?);
                let kept = n.and(low, high)?;
                weight = n.select(kept, weight, 0.0)?;
                total = Some(match total {
                    Some(total) => n.add(total, weight)?,
                    None => weight,
                });
            }
            parts.push((index, weight));
        }
        let mut sum: Option<ValueId> = None;
        for (index, mut weight) in parts {
            if let Some(total) = total {
                weight = n.div(weight, total)?;
            }
            let values = at(n, index)?;
            let weight = n.cast(weight, dtype)?;
            let weight = n.expand_dims(weight, &axes)?;
            let part = n.mul(values, weight)?;
            sum = Some(match sum {
                Some(sum) => n.add(sum, part)?,
                None => part,
            });
        }
        sum.ok_or_else(|| Error::malformed("samples without weights"))?
    };
    if form.place != "tf_crop_and_resize" {
        return Ok(y);
    }
    let (low, high) = (n.less(places, 0.0)?, n.greater(places, top)?);
    let outside = n.or(low, high)?;
    let outside = n.expand_dims(outside, &axes)?;
    n.select(outside, form.extrapolation, y)
}

/// `kernel` of a distance that is computed.
fn kernel_of(n: &mut Lowering, form: &Form, distance: ValueId) -> Result<ValueId> {
    let x = n.un(Abs, distance)?;
    if form.mode != Mode::Cubic {
        let y = n.sub(1.0, x)?;
        return n.max(y, 0.0);
    }
    let a = form.a;
    let near = n.mul(x, a + 2.0)?;
    let near = n.sub(near, a + 3.0)?;
    let near = n.mul(near, x)?;
    let near = n.mul(near, x)?;
    let near = n.add(near, 1.0)?;
    let far = n.mul(x, a)?;
    let far = n.sub(far, 5.0 * a)?;
    let far = n.mul(far, x)?;
    let far = n.add(far, 8.0 * a)?;
    let far = n.mul(far, x)?;
    let far = n.sub(far, 4.0 * a)?;
    let (inner, outer) = (n.less_equal(x, 1.0)?, n.less(x, 2.0)?);
    let far = n.select(outer, far, 0.0)?;
    n.select(inner, near, far)
}

/// Samples with a filter that widens as the image shrinks, as a product with the matrix of weights.
fn widened(
    n: &mut Lowering,
    x: ValueId,
    form: &Form,
    plan: &Axis,
    places: ValueId,
    scale: ValueId,
    last: ValueId,
) -> Result<ValueId> {
    let (axis, dtype, rank) = (plan.axis, n.dtype(x)?, n.rank(x)?);
    let shrink = n.min(scale, 1.0)?;
    let support = if form.mode == Mode::Cubic { 2.0 } else { 1.0 };
    // So many elements beyond each end can have a weight.
    let beyond = n.div(support, shrink)?;
    let beyond = n.un(Ceil, beyond)?;
    let beyond = n.add(beyond, 1.0)?;
    let beyond = n.cast(beyond, DType::Int32)?;
    let both = n.mul(beyond, 2.0)?;
    let size = n.add(last, 1.0)?;
    let total = n.add(size, both)?;
    let indices = n.range(total)?;
    let indices = n.sub(indices, beyond)?;
    let column = n.expand_dims(places, &[1])?;
    let real = n.float_of(indices)?;
    let distance = n.sub(real, column)?;
    let distance = n.mul(distance, shrink)?;
    let mut weights = kernel_of(n, form, distance)?;
    if form.exclude_outside {
        let (low, high) = (n.greater_equal(indices, 0.0)?, n.less_equal(indices, last)?);
        let kept = n.and(low, high)?;
        weights = n.select(kept, weights, 0.0)?;
    }
    let sum = n.sum(weights, &[1], true)?;
    let weights = n.div(weights, sum)?;
    let weights = n.cast(weights, dtype)?;
    let held = n.max(indices, 0.0)?;
    let held = n.min(held, last)?;
    let padded = n.gather(x, held, axis)?;
    let mut order: Vec<usize> = (0..rank).filter(|&d| d != axis).collect();
    order.push(axis);
    let back: Vec<usize> =
        (0..rank).map(|d| order.iter().position(|&o| o == d).expect("a permutation")).collect();
    let rows = n.transpose(padded, &order)?;
    let y = n.matmul(rows, weights, false, true)?;
    n.transpose(y, &back)
}
