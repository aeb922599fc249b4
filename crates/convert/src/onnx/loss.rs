//! Losses, and steps of optimizers.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, ValueId};

use super::compose::V;
use super::node::Node;
use super::{activation, cast};
use crate::Error;
use crate::lower::{Lowering, Result, Size, op};

/// Minus the log-probability of each target, weighted; averaged, summed, or one for each.
pub(super) fn negative_log_likelihood(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let rows = rows(n, x.id)?;
    let y = loss(n, rows, x)?;
    cast::finish(n, y, x.elem)
}

/// The same of the softmax of scores; the second result is its logarithm.
pub(super) fn softmax_cross_entropy(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let scores = rows(n, x.id)?;
    let log = activation::log_softmax(n, scores, 1)?;
    let y = loss(n, log, x)?;
    let mut results = cast::finish(n, y, x.elem)?;
    if n.wants(1) {
        let sizes = n.sizes_of(x.id)?;
        let log = n.reshape_to(log, &sizes)?;
        results.extend(cast::finish(n, log, x.elem)?);
    }
    Ok(results)
}

/// [batch, classes, everything else].
fn rows(n: &mut Lowering, x: ValueId) -> Result<ValueId> {
    match n.rank(x)? {
        0 | 1 => Err(Error::malformed("scores without classes")),
        2 => n.expand_dims(x, &[2]),
        3 => Ok(x),
        rank => n.reshape_to(x, &[Size::Of(x, 0..1), Size::Of(x, 1..2), Size::Of(x, 2..rank)]),
    }
}

fn loss(n: &mut Node<'_, '_>, log: ValueId, x: V) -> Result<ValueId> {
    let target = n.need(1)?.id;
    let weight = n.opt(2)?.map(|w| w.id);
    let ignored = n.int("ignore_index")?;
    let reduction = n.text_or("reduction", "mean")?;
    let dtype = n.dtype(x.id)?;
    let rank = n.rank(target)?;
    let flat = match rank {
        1 => n.expand_dims(target, &[1])?,
        2 => target,
        _ => n.reshape_to(target, &[Size::Of(target, 0..1), Size::Of(target, 1..rank)])?,
    };
    let kept = match ignored {
        Some(index) => Some(n.not_equal(flat, index as f64)?),
        None => None,
    };
    let class = match kept {
        Some(kept) => n.select(kept, flat, 0.0)?,
        None => flat,
    };
    let column = n.expand_dims(class, &[1])?;
    let found = op!(n, GatherAlongAxis, x = log, indices = column, axis = 1)?;
    let found = n.squeeze(found, &[1])?;
    let mut losses = n.neg(found)?;
    let mut weights = match weight {
        Some(weight) => Some(n.gather(weight, class, 0)?),
        None => None,
    };
    if let Some(kept) = kept {
        let ones = match weights {
            Some(weights) => weights,
            None => {
                let sizes = n.sizes_of(flat)?;
                n.full(&sizes, 1.0, dtype)?
            }
        };
        weights = Some(n.select(kept, ones, 0.0)?);
        losses = n.select(kept, losses, 0.0)?;
    }
    if let Some(weights) = weights {
        losses = n.mul(losses, weights)?;
    }
    match reduction {
        "none" => {
            let sizes = n.sizes_of(target)?;
            n.reshape_to(losses, &sizes)
        }
        "sum" => n.sum(losses, &[0, 1], false),
        "mean" => match weights {
            Some(weights) => {
                let (sum, all) = (n.sum(losses, &[0, 1], false)?, n.sum(weights, &[0, 1], false)?);
                n.div(sum, all)
            }
            None => n.mean(losses, &[0, 1], false),
        },
        other => Err(Error::malformed(format!("the reduction `{other}`"))),
    }
}

/// The inputs of an optimizer's step are rate, count of steps, then for each of the kinds one tensor per parameter. Returns
/// the tensors of each parameter.
fn tensors<const KINDS: usize>(n: &mut Node<'_, '_>) -> Result<Vec<[V; KINDS]>> {
    let all = n.all()?;
    let rest = &all[2.min(all.len())..];
    if rest.is_empty() || !rest.len().is_multiple_of(KINDS) {
        return Err(Error::malformed(format!("{} inputs", all.len())));
    }
    let count = rest.len() / KINDS;
    Ok((0..count).map(|i| std::array::from_fn(|kind| rest[kind * count + i])).collect())
}

/// Results come kind by kind, as the inputs do.
fn transposed(results: Vec<Vec<V>>) -> Vec<V> {
    let kinds = results.first().map_or(0, Vec::len);
    (0..kinds).flat_map(|k| results.iter().map(move |r| r[k]).collect::<Vec<_>>()).collect()
}

pub(super) fn adagrad(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let decay = f64::from(n.float_or("decay_factor", 0.0)?);
    let epsilon = f64::from(n.float_or("epsilon", 0.0)?);
    let norm = f64::from(n.float_or("norm_coefficient", 0.0)?);
    let (rate, count) = (n.need(0)?.id, n.need(1)?.id);
    let count = n.float_of(count)?;
    let slower = n.mul(count, decay)?;
    let slower = n.add(slower, 1.0)?;
    let rate = n.div(rate, slower)?;
    let mut results = Vec::new();
    for [x, g, h] in tensors::<3>(n)? {
        let pull = n.mul(x.id, norm)?;
        let gradient = n.add(pull, g.id)?;
        let square = n.mul(gradient, gradient)?;
        let sum = n.add(h.id, square)?;
        let root = n.un(Sqrt, sum)?;
        let root = n.add(root, epsilon)?;
        let step = n.mul(gradient, rate)?;
        let step = n.div(step, root)?;
        let next = n.sub(x.id, step)?;
        results.push(vec![V { id: next, elem: x.elem }, V { id: sum, elem: h.elem }]);
    }
    Ok(transposed(results))
}

pub(super) fn adam(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let alpha = f64::from(n.float_or("alpha", 0.9)?);
    let beta = f64::from(n.float_or("beta", 0.999)?);
    let epsilon = f64::from(n.float_or("epsilon", 0.0)?);
    let norm = f64::from(n.float_or("norm_coefficient", 0.0)?);
    let after = f64::from(n.float_or("norm_coefficient_post", 0.0)?);
    let (rate, count) = (n.need(0)?.id, n.need(1)?.id);
    let steps = n.float_of(count)?;
    // The first step has number 0, and corrects nothing.
    let power = |n: &mut Lowering, base: f64| {
        let base = n.number(DType::Fp32, base)?;
        let base = n.constant(base);
        let power = n.pow(base, steps)?;
        n.sub(1.0, power)
    };
    let (low, high) = (power(n, alpha)?, power(n, beta)?);
    let root = n.un(Sqrt, high)?;
    let corrected = n.mul(rate, root)?;
    let corrected = n.div(corrected, low)?;
    let begun = n.greater(steps, 0.0)?;
    let rate = n.select(begun, corrected, rate)?;
    let mut results = Vec::new();
    for [x, g, m, s] in tensors::<4>(n)? {
        let pull = n.mul(x.id, norm)?;
        let gradient = n.add(pull, g.id)?;
        let (old, new) = (n.mul(m.id, alpha)?, n.mul(gradient, 1.0 - alpha)?);
        let momentum = n.add(old, new)?;
        let square = n.mul(gradient, gradient)?;
        let (old, new) = (n.mul(s.id, beta)?, n.mul(square, 1.0 - beta)?);
        let squares = n.add(old, new)?;
        let root = n.un(Sqrt, squares)?;
        let root = n.add(root, epsilon)?;
        let step = n.mul(momentum, rate)?;
        let step = n.div(step, root)?;
        let next = n.sub(x.id, step)?;
        let next = n.mul(next, 1.0 - after)?;
        results.push(vec![
            V { id: next, elem: x.elem },
            V { id: momentum, elem: m.elem },
            V { id: squares, elem: s.elem },
        ]);
    }
    Ok(transposed(results))
}

pub(super) fn momentum(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let alpha = f64::from(n.float_or("alpha", 0.0)?);
    let beta = f64::from(n.float_or("beta", 0.0)?);
    let norm = f64::from(n.float_or("norm_coefficient", 0.0)?);
    let nesterov = match n.text_or("mode", "standard")? {
        "standard" => false,
        "nesterov" => true,
        other => return Err(Error::malformed(format!("the mode `{other}`"))),
    };
    let (rate, count) = (n.need(0)?.id, n.need(1)?.id);
    // The first step takes the whole gradient.
    let begun = n.greater(count, 0.0)?;
    let share = n.select_as(begun, beta, 1.0, DType::Fp32)?;
    let mut results = Vec::new();
    for [x, g, m] in tensors::<3>(n)? {
        let pull = n.mul(x.id, norm)?;
        let gradient = n.add(pull, g.id)?;
        let (old, new) = (n.mul(m.id, alpha)?, n.mul(gradient, share)?);
        let next_momentum = n.add(old, new)?;
        let direction = if nesterov {
            let ahead = n.mul(next_momentum, alpha)?;
            n.add(gradient, ahead)?
        } else {
            next_momentum
        };
        let step = n.mul(direction, rate)?;
        let next = n.sub(x.id, step)?;
        results.push(vec![V { id: next, elem: x.elem }, V { id: next_momentum, elem: m.elem }]);
    }
    Ok(transposed(results))
}
