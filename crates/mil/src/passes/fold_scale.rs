//! Folds arithmetic with one constant per channel into the convolution before it.
//!
//! ```text
//! c = conv(x = x, weight = w, bias = b)
//! d = mul(x = c, y = s)                      s: [C, 1, 1], or one number
//! y = add(x = d, y = t)                      y = conv(x = x, weight = w * s, bias = b * s + t)
//! ```
//!
//! Also for `sub` and `real_div`, and for `conv_transpose`.

use super::edit::{Editor, float_tensor};
use crate::infer::Facts;
use crate::{Evaluate, Input, OpId, OpKind, ValueId, param};

pub(super) fn run(e: &mut Editor<'_>, _: Option<&dyn Evaluate>) {
    let facts = e.facts();
    for op in e.f.walk() {
        if matches!(e.f[op].kind, OpKind::Mul | OpKind::Add | OpKind::Sub | OpKind::RealDiv) {
            let operands: Vec<_> = e.operands(op).collect();
            operands.into_iter().any(|(x, other)| fold(e, &facts, op, x, other).is_some());
        }
    }
}

fn fold(e: &mut Editor<'_>, facts: &Facts, op: OpId, x: ValueId, other: &str) -> Option<()> {
    let conv = e.producer(x, OpKind::Conv).or_else(|| e.producer(x, OpKind::ConvTranspose))?;
    let channels = e.tensor(conv, param!(Conv.weight)).and_then(|w| out_channels(e, conv, w.shape()))?;
    if !e.used_once(x) {
        e.skip(op, "something else uses the convolution's result");
        return None;
    }
    let rank = facts.ty(e.f, x).as_tensor()?.rank();
    let numbers = per_channel(e, op, other, rank, channels)?;
    let (one, zero) = (vec![1.0; channels], vec![0.0; channels]);
    let negative: Vec<f64> = numbers.iter().map(|n| -n).collect();
    let (scale, shift) = match (e.f[op].kind, other) {
        (OpKind::Mul, _) => (numbers, zero),
        (OpKind::Add, _) => (one, numbers),
        (OpKind::Sub, "y") => (one, negative),
        (OpKind::Sub, _) => (vec![-1.0; channels], numbers),
        (OpKind::RealDiv, "y") => (numbers.iter().map(|n| n.recip()).collect(), zero),
        _ => return None,
    };
    scale_conv(e, op, x, &scale, shift)
}

/// Returns the constant bound to a parameter as one number per channel, for a tensor of this rank. The constant may
/// vary along the channels only.
fn per_channel(e: &Editor<'_>, op: OpId, name: &str, rank: usize, channels: usize) -> Option<Vec<f64>> {
    let t = e.tensor(op, name)?;
    let missing = rank.checked_sub(t.shape().len())?;
    let fits = |(i, &n): (usize, &usize)| n == 1 || (n == channels && i + missing == 1);
    if !t.shape().iter().enumerate().all(fits) {
        e.skip(op, "the constant is not one number per channel");
        return None;
    }
    let numbers = t.to_f64();
    Some(if numbers.len() == 1 { vec![numbers[0]; channels] } else { numbers })
}

/// Turns `op` into the convolution that computes `x`, followed by a `scale` and a `shift` per channel.
pub(super) fn scale_conv(
    e: &mut Editor<'_>,
    op: OpId,
    x: ValueId,
    scale: &[f64],
    mut shift: Vec<f64>,
) -> Option<()> {
    let conv = e.producer(x, OpKind::Conv).or_else(|| e.producer(x, OpKind::ConvTranspose))?;
    if !e.used_once(x) {
        e.skip(op, "something else uses the convolution's result");
        return None;
    }
    let Some(weight) = e.tensor(conv, param!(Conv.weight)) else {
        e.skip(op, "the convolution's weight is not a plain constant");
        return None;
    };
    let (dtype, shape) = (weight.dtype(), weight.shape().to_vec());
    if e.f[x].ty.as_tensor().is_none_or(|t| t.dtype != dtype) {
        e.skip(op, "the weights have another element type than the result");
        return None;
    }
    let channels = out_channels(e, conv, &shape).filter(|&c| c == scale.len() && c == shift.len())?;
    let bytes = weight.bytes().len() + channels * 4;
    if !e.afford(op, bytes) {
        return None;
    }
    let mut weights = e.tensor(conv, param!(Conv.weight))?.to_f64();
    let inner =
        if e.is(conv, OpKind::Conv) { shape[1..].iter().product() } else { shape[2..].iter().product() };
    let per_group = if e.is(conv, OpKind::Conv) { channels } else { shape[1] };
    let in_per_group = (shape[0] * per_group).checked_div(channels)?;
    for (i, row) in weights.chunks_exact_mut(inner).enumerate() {
        // For `conv_transpose` the rows are [input channel, output channel of the input's group].
        let channel = if e.is(conv, OpKind::Conv) {
            i
        } else {
            (i / per_group) / in_per_group * per_group + i % per_group
        };
        row.iter_mut().for_each(|w| *w *= scale[channel]);
    }
    if !e.f[conv].args(param!(Conv.bias)).is_empty() {
        let Some(bias) = e.tensor(conv, param!(Conv.bias)) else {
            e.skip(op, "the convolution's bias is not a plain constant");
            return None;
        };
        let bias = bias.to_f64();
        (0..channels).for_each(|c| shift[c] += bias.get(c).copied().unwrap_or_default() * scale[c]);
    }
    let tensors = float_tensor(dtype, &shape, &weights).zip(float_tensor(dtype, &[channels], &shift));
    let Some((weight, bias)) = tensors else {
        e.skip(op, "the folded weights do not fit their element type");
        return None;
    };
    let name = e.f[e.f[op].outputs[0]].name.clone();
    let unscaled = scale.iter().all(|&s| s == 1.0);
    let mut successor = |input: &str, value| {
        let base = format!("{name}_{input}");
        match e.value(conv, input) {
            Some(old) => e.successor(op, old, &base, value),
            None => e.new_const(op, &base, value),
        }
    };
    let bias = shift.iter().any(|&s| s != 0.0).then(|| successor("bias", bias));
    let weight = if unscaled { None } else { Some(successor("weight", weight)) };
    let weight = weight.or_else(|| e.value(conv, param!(Conv.weight)));
    let mut inputs = e.f[conv].inputs.clone();
    inputs.retain(|i| i.name != param!(Conv.bias) && (i.name != param!(Conv.weight) || weight.is_none()));
    inputs.extend(weight.map(|w| Input::value(param!(Conv.weight), w)));
    inputs.extend(bias.map(|b| Input::value(param!(Conv.bias), b)));
    e.rewrite(op, e.f[conv].kind, inputs);
    Some(())
}

/// Returns the number of output channels of a convolution with this weight.
fn out_channels(e: &Editor<'_>, conv: OpId, weight: &[usize]) -> Option<usize> {
    if weight.len() < 3 || weight.contains(&0) {
        return None;
    }
    if e.is(conv, OpKind::Conv) {
        return Some(weight[0]);
    }
    let groups = match e.f[conv].args(param!(Conv.groups)).is_empty() {
        true => 1,
        false => e.number(conv, param!(Conv.groups))? as usize,
    };
    weight[1].checked_mul(groups).filter(|_| groups > 0 && weight[0].is_multiple_of(groups))
}
