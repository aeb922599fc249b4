//! Normalization.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, Dim, ValueId};

use super::cast;
use super::compose::V;
use super::elem::Elem;
use super::node::Node;
use crate::Error;
use crate::lower::{Lowering, Result, Size, op};

/// Broadcasts a vector with an element per channel over the spatial dimensions of `rank` dimensions.
pub(super) fn per_channel(n: &mut Lowering, v: ValueId, rank: usize) -> Result<ValueId> {
    let axes: Vec<i32> = (1..=rank as i32 - 2).collect();
    n.expand_dims(v, &axes)
}

/// 1 / √(variance + epsilon).
fn inverse_root(n: &mut Lowering, variance: ValueId, epsilon: f64) -> Result<ValueId> {
    let sum = n.add(variance, epsilon)?;
    let root = n.un(Sqrt, sum)?;
    n.div(1.0, root)
}

/// Mean and variance over dimensions, kept with size 1.
fn moments(n: &mut Lowering, x: ValueId, axes: &[usize]) -> Result<(ValueId, ValueId, ValueId)> {
    let mean = n.mean(x, axes, true)?;
    let centered = n.sub(x, mean)?;
    let square = n.mul(centered, centered)?;
    let variance = n.mean(square, axes, true)?;
    Ok((mean, centered, variance))
}

pub(super) fn batch(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let [scale, bias, mean, variance] = [n.need(1)?, n.need(2)?, n.need(3)?, n.need(4)?].map(|v| v.id);
    let epsilon = f64::from(n.float_or("epsilon", 1e-5)?);
    let momentum = f64::from(n.float_or("momentum", 0.9)?);
    let rank = n.rank(v.id)?;
    let training = if n.opset >= 14 {
        n.flag("training_mode", false)?
    } else {
        n.wants(1) || n.opset < 7 && !n.flag("is_test", false)?
    };
    if training && n.opset < 14 {
        return Err(Error::unsupported("a batch normalization in training mode")
            .with_hint("export the model for inference (`model.eval()`)"));
    }
    let dtype = n.dtype(v.id)?;
    if !training {
        let spatial = n.opset >= 9 || n.flag("spatial", true)?;
        let known = [scale, bias, mean, variance].iter().all(|&p| n.builder.known(p).is_some());
        let same = [scale, bias, mean, variance].iter().all(|&p| n.dtype(p).is_ok_and(|d| d == dtype));
        let whole =
            n.ty(v.id)?.dtype.is_float() && (3..=5).contains(&rank) && n.dim(v.id, 1)?.fixed().is_some();
        if spatial && known && same && whole {
            let epsilon = n.number(dtype, epsilon)?;
            let y = op!(
                n,
                BatchNorm,
                x = v.id,
                mean = mean,
                variance = variance,
                gamma = scale,
                beta = bias,
                epsilon = epsilon
            )?;
            return cast::finish(n, y, v.elem);
        }
        let mut parts = [mean, variance, scale, bias];
        for p in &mut parts {
            *p = n.cast(*p, dtype)?;
            if spatial {
                *p = per_channel(n, *p, rank.max(2))?;
            }
        }
        let [mean, variance, scale, bias] = parts;
        let inverse = inverse_root(n, variance, epsilon)?;
        let factor = n.mul(inverse, scale)?;
        let centered = n.sub(v.id, mean)?;
        let y = n.mul(centered, factor)?;
        let y = n.add(y, bias)?;
        return cast::finish(n, y, v.elem);
    }
    let axes: Vec<usize> = (0..rank).filter(|&d| d != 1).collect();
    let (now, centered, spread) = moments(n, v.id, &axes)?;
    let inverse = inverse_root(n, spread, epsilon)?;
    let scale = n.cast(scale, dtype)?;
    let scale = per_channel(n, scale, rank)?;
    let bias = n.cast(bias, dtype)?;
    let bias = per_channel(n, bias, rank)?;
    let y = n.mul(centered, inverse)?;
    let y = n.mul(y, scale)?;
    let y = n.add(y, bias)?;
    let mut results = cast::finish(n, y, v.elem)?;
    for (old, now, input) in [(mean, now, 3), (variance, spread, 4)] {
        let dtype = n.dtype(old)?;
        let now = n.squeeze(now, &axes.iter().map(|&a| a as i32).collect::<Vec<_>>())?;
        let now = n.cast(now, dtype)?;
        let old = n.mul(old, momentum)?;
        let now = n.mul(now, 1.0 - momentum)?;
        let running = n.add(old, now)?;
        let elem = n.elem(input)?;
        results.extend(cast::finish(n, running, elem)?);
    }
    Ok(results)
}

pub(super) fn instance(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, scale, bias) = (n.need(0)?, n.need(1)?.id, n.need(2)?.id);
    let epsilon = f64::from(n.float_or("epsilon", 1e-5)?);
    let rank = n.rank(v.id)?;
    let dtype = n.dtype(v.id)?;
    if n.builder.known(scale).is_some()
        && n.builder.known(bias).is_some()
        && (3..=4).contains(&rank)
        && n.dim(v.id, 1)?.fixed().is_some()
    {
        let epsilon = n.number(dtype, epsilon)?;
        let y = op!(n, InstanceNorm, x = v.id, gamma = scale, beta = bias, epsilon = epsilon)?;
        return cast::finish(n, y, v.elem);
    }
    let axes: Vec<usize> = (2..rank).collect();
    let (_, centered, variance) = moments(n, v.id, &axes)?;
    let inverse = inverse_root(n, variance, epsilon)?;
    let y = n.mul(centered, inverse)?;
    let scale = per_channel(n, scale, rank)?;
    let y = n.mul(y, scale)?;
    let bias = per_channel(n, bias, rank)?;
    let y = n.add(y, bias)?;
    cast::finish(n, y, v.elem)
}

/// Normalizes over the last dimensions, from the axis on. The other two results are mean and inverse deviation.
pub(super) fn layer(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, scale, bias) = (n.need(0)?, n.opt(1)?, n.opt(2)?);
    let epsilon = f64::from(n.float_or("epsilon", 1e-5)?);
    let rank = n.rank(v.id)?;
    let axis = n.axis_or("axis", -1, v.id)?;
    let axes: Vec<usize> = (axis..rank).collect();
    let dtype = n.dtype(v.id)?;
    if !n.wants(1) && !n.wants(2) {
        let y = layer_of(n, v.id, scale.map(|s| s.id), bias.map(|b| b.id), &axes, epsilon)?;
        return cast::finish(n, y, v.elem);
    }
    // The statistics are those of the type of `stash_type`, fp32 by default.
    let real = n.float_of(v.id)?;
    let (mean, centered, variance) = moments(n, real, &axes)?;
    let inverse = inverse_root(n, variance, epsilon)?;
    let y = n.mul(centered, inverse)?;
    let mut y = n.cast(y, dtype)?;
    if let Some(scale) = scale {
        y = n.mul(y, scale.id)?;
    }
    if let Some(bias) = bias {
        y = n.add(y, bias.id)?;
    }
    let mut results = cast::finish(n, y, v.elem)?;
    let stash = Elem::Float;
    results.push(V { id: mean, elem: stash });
    results.push(V { id: inverse, elem: stash });
    Ok(results)
}

/// Normalizes over the last dimensions.
pub(super) fn layer_of(
    n: &mut Lowering,
    x: ValueId,
    scale: Option<ValueId>,
    bias: Option<ValueId>,
    axes: &[usize],
    epsilon: f64,
) -> Result<ValueId> {
    use milwright_mil::{Input, Value, param};
    let dtype = n.dtype(x)?;
    let wanted: Option<Vec<usize>> = axes.iter().map(|&d| n.dim(x, d).ok().and_then(Dim::fixed)).collect();
    let fits = |p: &ValueId| {
        n.builder.known(*p).is_some_and(|t| Some(t.shape().to_vec()) == wanted && t.dtype() == dtype)
    };
    if scale.iter().chain(&bias).all(fits) {
        let numbers: Vec<i32> = axes.iter().map(|&a| a as i32).collect();
        let mut inputs = vec![
            Input::value(param!(LayerNorm.x), x),
            Input::constant(param!(LayerNorm.axes), Value::ints(&numbers)),
            Input::constant(param!(LayerNorm.epsilon), Value::Tensor(n.number(dtype, epsilon)?)),
        ];
        for (name, p) in [(param!(LayerNorm.gamma), scale), (param!(LayerNorm.beta), bias)] {
            if let Some(p) = p {
                inputs.push(Input::value(name, p));
            }
        }
        return n.op(LayerNorm, inputs);
    }
    let real = n.float_of(x)?;
    let (_, centered, variance) = moments(n, real, axes)?;
    let inverse = inverse_root(n, variance, epsilon)?;
    let y = n.mul(centered, inverse)?;
    let mut y = n.cast(y, dtype)?;
    if let Some(scale) = scale {
        y = n.mul(y, scale)?;
    }
    match bias {
        Some(bias) => n.add(y, bias),
        None => Ok(y),
    }
}

/// ONNX Runtime's name for `RMSNormalization`, whose second result is the inverse of the root.
pub(super) fn simplified_layer(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    if n.wants(1) {
        return Err(Error::unsupported("the second result of a simplified layer normalization")
            .with_hint("it serves training only: export the model for inference"));
    }
    rms(n)
}

/// x / √(mean x² + epsilon) · scale, over the last dimensions.
pub(super) fn rms(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, scale) = (n.need(0)?, n.need(1)?);
    let epsilon = f64::from(n.float_or("epsilon", 1e-5)?);
    let rank = n.rank(v.id)?;
    let axis = n.axis_or("axis", -1, v.id)?;
    let axes: Vec<usize> = (axis..rank).collect();
    let dtype = n.dtype(scale.id)?;
    let y = rms_of(n, v.id, &axes, epsilon)?;
    let y = n.cast(y, dtype)?;
    let y = n.mul(y, scale.id)?;
    cast::finish(n, y, scale.elem)
}

/// x / √(mean x² + epsilon) in fp32, of the type of x.
pub(super) fn rms_of(n: &mut Lowering, x: ValueId, axes: &[usize], epsilon: f64) -> Result<ValueId> {
    let dtype = n.dtype(x)?;
    let real = n.float_of(x)?;
    let square = n.mul(real, real)?;
    let mean = n.mean(square, axes, true)?;
    let inverse = inverse_root(n, mean, epsilon)?;
    let y = n.mul(real, inverse)?;
    n.cast(y, dtype)
}

/// Scale and bias have an element per group up to version 20, and per channel from 21 on.
pub(super) fn group(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, mut scale, mut bias) = (n.need(0)?, n.need(1)?.id, n.need(2)?.id);
    let epsilon = f64::from(n.float_or("epsilon", 1e-5)?);
    let groups = usize::try_from(n.int_or("num_groups", 0)?).unwrap_or(0);
    let rank = n.rank(v.id)?;
    let channels = n.size(v.id, 1)?;
    if groups == 0 || channels % groups != 0 {
        return Err(Error::malformed(format!("{channels} channels in {groups} groups")));
    }
    let y = groups_of(n, v.id, groups, epsilon)?;
    if n.opset < 21 {
        let each: Vec<i32> = (0..channels).map(|c| (c / (channels / groups)) as i32).collect();
        let each = n.int_vector(&each);
        scale = n.gather(scale, each, 0)?;
        bias = n.gather(bias, each, 0)?;
    }
    let scale = per_channel(n, scale, rank)?;
    let y = n.mul(y, scale)?;
    let bias = per_channel(n, bias, rank)?;
    let y = n.add(y, bias)?;
    cast::finish(n, y, v.elem)
}

/// Normalizes over groups of channels, which have to fit, and all that follows them.
pub(super) fn groups_of(n: &mut Lowering, x: ValueId, groups: usize, epsilon: f64) -> Result<ValueId> {
    let (rank, channels, dtype) = (n.rank(x)?, n.size(x, 1)?, n.dtype(x)?);
    let real = n.float_of(x)?;
    // Each group as one row.
    let rest: Option<usize> =
        (2..rank).try_fold(channels / groups, |all, d| all.checked_mul(n.dim(x, d).ok()?.fixed()?));
    let rows = match rest {
        Some(rest) => n.reshape_to(real, &[Size::Of(x, 0..1), Size::Fixed(groups), Size::Fixed(rest)])?,
        None => op!(n, Reshape, x = real, shape = &[0, groups as i32, -1][..])?,
    };
    let (_, centered, variance) = moments(n, rows, &[2])?;
    let inverse = inverse_root(n, variance, epsilon)?;
    let y = n.mul(centered, inverse)?;
    let sizes = n.sizes_of(x)?;
    let y = n.reshape_to(y, &sizes)?;
    n.cast(y, dtype)
}

/// x / (bias + α / size · Σ x²)^β over neighboring channels.
pub(super) fn lrn(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let size = n.int("size")?.filter(|&s| s > 0).ok_or_else(|| Error::malformed("`size` is missing"))?;
    let alpha = f64::from(n.float_or("alpha", 1e-4)?);
    let beta = f64::from(n.float_or("beta", 0.75)?);
    let bias = f64::from(n.float_or("bias", 1.0)?);
    let dtype = n.dtype(v.id)?;
    let rank = n.rank(v.id)?;
    if size % 2 == 1 && (3..=5).contains(&rank) {
        let [alpha, beta, k] = [alpha, beta, bias].map(|c| n.number(dtype, c));
        let y = op!(
            n,
            LocalResponseNorm,
            x = v.id,
            size = i32::try_from(size).map_err(|_| Error::malformed("`size` is too large"))?,
            alpha = alpha?,
            beta = beta?,
            k = k?
        )?;
        return cast::finish(n, y, v.elem);
    }
    // From c - ⌊(size - 1) / 2⌋ to c + ⌈(size - 1) / 2⌉: a difference of running sums would lose digits, so that
    // shifted copies are added.
    if size > 64 {
        return Err(Error::unsupported("an even `size` above 64").with_hint("use an odd size"));
    }
    let square = n.mul(v.id, v.id)?;
    let (before, after) = ((size - 1) / 2, size / 2);
    let channels = n.size(v.id, 1)? as i64;
    let mut amounts = vec![0; 2 * (rank - 1)];
    (amounts[0], amounts[1]) = (before as i32, after as i32);
    let zero = n.number(dtype, 0.0)?;
    let wide = op!(n, Pad, x = square, pad = &amounts[..], mode = "constant", constant_val = zero)?;
    let mut sum = n.cut(wide, 1, 0, Some(channels as i32))?;
    for shift in 1..size {
        let next = n.cut(wide, 1, shift as i32, Some((channels + shift) as i32))?;
        sum = n.add(sum, next)?;
    }
    let sum = n.mul(sum, alpha / size as f64)?;
    let sum = n.add(sum, bias)?;
    let power = n.pow(sum, beta)?;
    let y = n.div(v.id, power)?;
    cast::finish(n, y, v.elem)
}

/// x divided by its norm along an axis; a vector of zeros stays.
pub(super) fn lp(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let axis = n.axis_or("axis", -1, v.id)?;
    let a = n.un(Abs, v.id)?;
    let norm = match n.int_or("p", 2)? {
        1 => n.sum(a, &[axis], true)?,
        2 => {
            // Scaled by the largest element, so that the squares do not overflow.
            let square = n.mul(a, a)?;
            let sum = n.sum(square, &[axis], true)?;
            n.un(Sqrt, sum)?
        }
        p => return Err(Error::malformed(format!("the norm of order {p}; it has to be 1 or 2"))),
    };
    let zero = n.equal(norm, 0.0)?;
    let norm = n.select(zero, 1.0, norm)?;
    let y = n.div(v.id, norm)?;
    cast::finish(n, y, v.elem)
}

/// (x - mean) / (√(mean x² - mean²) + 1e-9) over the axes.
pub(super) fn mean_variance(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let axes = n.ints("axes")?.unwrap_or(&[0, 2, 3]);
    let axes = axes.iter().map(|&a| n.axis(v.id, a)).collect::<Result<Vec<_>>>()?;
    let (_, centered, variance) = moments(n, v.id, &axes)?;
    let root = n.un(Sqrt, variance)?;
    let root = if n.dtype(root)? == DType::Fp16 { root } else { n.add(root, 1e-9)? };
    let y = n.div(centered, root)?;
    cast::finish(n, y, v.elem)
}
