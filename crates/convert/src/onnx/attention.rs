//! Attention, and what goes with it.

pub(super) mod runtime;

use milwright_mil::OpKind::*;
use milwright_mil::{DType, ValueId};

use super::cast;
use super::compose::{V, one};
use super::elem::Elem;
use super::item::{Item, Val};
use super::node::Node;
use crate::Error;
use crate::lower::{Lowering, Result, Size, op};

/// [batch, steps, heads · size] as [batch, heads, steps, size]; other tensors stay.
fn heads(n: &mut Lowering, x: ValueId, count: usize) -> Result<ValueId> {
    if n.rank(x)? == 4 {
        return Ok(x);
    }
    let size = n.size(x, 2)?;
    if count == 0 || size % count != 0 {
        return Err(Error::malformed(format!("{size} elements for {count} heads")));
    }
    let sizes = [Size::Of(x, 0..1), Size::Of(x, 1..2), Size::Fixed(count), Size::Fixed(size / count)];
    let split = n.reshape_to(x, &sizes)?;
    n.transpose(split, &[0, 2, 1, 3])
}

/// [batch, heads, steps, size] as [batch, steps, heads · size].
fn joined(n: &mut Lowering, x: ValueId) -> Result<ValueId> {
    let (count, size) = (n.size(x, 1)?, n.size(x, 3)?);
    let y = n.transpose(x, &[0, 2, 1, 3])?;
    n.reshape_to(y, &[Size::Of(y, 0..1), Size::Of(y, 1..2), Size::Fixed(count * size)])
}

fn head_count(n: &mut Node<'_, '_>, name: &'static str, of: ValueId) -> Result<usize> {
    match n.int(name)? {
        Some(count) => usize::try_from(count).map_err(|_| Error::malformed(format!("{count} heads"))),
        None if n.rank(of)? == 4 => n.size(of, 1),
        None => Err(Error::malformed(format!("`{name}` is missing"))),
    }
}

pub(super) fn attention(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (q, k, v) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let flat = n.rank(q.id)? == 3;
    let elem = q.elem;
    let (q_heads, kv_heads) = (head_count(n, "q_num_heads", q.id)?, head_count(n, "kv_num_heads", k.id)?);
    if kv_heads == 0 || q_heads % kv_heads != 0 {
        return Err(Error::malformed(format!("{q_heads} heads of queries and {kv_heads} of keys")));
    }
    let query = heads(n, q.id, q_heads)?;
    let mut key = heads(n, k.id, kv_heads)?;
    let mut value = heads(n, v.id, kv_heads)?;
    let past = n.opt(4)?;
    if let (Some(past_key), Some(past_value)) = (past, n.opt(5)?) {
        key = n.concat(vec![past_key.id, key], 2)?;
        value = n.concat(vec![past_value.id, value], 2)?;
    }
    let dtype = n.dtype(query)?;
    let bias = bias(n, query, key, past.map(|p| p.id), dtype)?;
    let size = n.size(query, 3)?;
    let scale = match n.float("scale")? {
        Some(scale) => f64::from(scale),
        None => 1.0 / (size as f64).sqrt(),
    };
    let softcap = f64::from(n.float_or("softcap", 0.0)?);
    let mode = n.int_or("qk_matmul_output_mode", 0)?;
    let precision = n.int("softmax_precision")?.map(cast::elem_of).transpose()?;

    // The scale goes half to each side, so that the product does not overflow.
    let root = scale.abs().sqrt();
    let scaled_query = n.mul(query, if scale < 0.0 { -root } else { root })?;
    let scaled_key = n.mul(key, root)?;
    let mut scores = grouped(n, scaled_query, scaled_key, true, kv_heads)?;
    let mut shown = scores;
    if softcap != 0.0 {
        let ratio = n.div(scores, softcap)?;
        let bounded = n.un(Tanh, ratio)?;
        scores = n.mul(bounded, softcap)?;
        if mode == 1 {
            shown = scores;
        }
    }
    if let Some(bias) = bias {
        scores = n.add(scores, bias)?;
    }
    if mode == 1 && softcap == 0.0 || mode == 2 {
        shown = if mode == 2 { scores } else { shown };
    }
    if precision.is_some_and(|p| p != Elem::Float16) {
        scores = n.float_of(scores)?;
    }
    let probabilities = guarded_softmax(n, scores, bias)?;
    let probabilities = n.cast(probabilities, dtype)?;
    if mode == 3 {
        shown = probabilities;
    }
    let y = grouped(n, probabilities, value, false, kv_heads)?;
    let y = if flat { joined(n, y)? } else { y };
    let mut results = cast::finish(n, y, elem)?;
    results.push(V { id: key, elem: k.elem });
    results.push(V { id: value, elem: v.elem });
    if n.wants(3) {
        results.extend(cast::finish(n, shown, elem)?);
    }
    Ok(results)
}

/// The product of [batch, heads, L, a] with [batch, groups, …], where neighboring heads share a group.
fn grouped(n: &mut Lowering, x: ValueId, y: ValueId, transposed: bool, groups: usize) -> Result<ValueId> {
    let heads = n.size(x, 1)?;
    if heads == groups {
        return n.matmul(x, y, false, transposed);
    }
    // The heads of a group one below the other.
    let last = Size::Of(x, 3..4);
    let tall = match n.dim(x, 2)?.fixed() {
        Some(steps) => Size::Fixed(heads / groups * steps),
        None => {
            // [batch, groups, heads of a group, L, a]: one more dimension, over which the other operand broadcasts.
            let sizes = [
                Size::Of(x, 0..1),
                Size::Fixed(groups),
                Size::Fixed(heads / groups),
                Size::Of(x, 2..3),
                last.clone(),
            ];
            let wide = n.reshape_to(x, &sizes)?;
            let other = n.expand_dims(y, &[2])?;
            let product = n.matmul(wide, other, false, transposed)?;
            let sizes = [
                Size::Of(product, 0..1),
                Size::Fixed(heads),
                Size::Of(product, 3..4),
                Size::Of(product, 4..5),
            ];
            return n.reshape_to(product, &sizes);
        }
    };
    let wide = n.reshape_to(x, &[Size::Of(x, 0..1), Size::Fixed(groups), tall, last])?;
    let product = n.matmul(wide, y, false, transposed)?;
    let sizes = [Size::Of(x, 0..1), Size::Fixed(heads), Size::Of(x, 2..3), Size::Of(product, 3..4)];
    n.reshape_to(product, &sizes)
}

/// The softmax of scores to which a bias was added. A row of which the bias takes everything is zero.
fn guarded_softmax(n: &mut Lowering, scores: ValueId, bias: Option<ValueId>) -> Result<ValueId> {
    let Some(bias) = bias else { return op!(n, Softmax, x = scores, axis = -1) };
    let last = n.rank(bias)? - 1;
    let top = n.reduce(ReduceMax, bias, &[last], true)?;
    let nothing = n.equal(top, f64::NEG_INFINITY)?;
    let scores = n.select(nothing, 0.0, scores)?;
    let probabilities = op!(n, Softmax, x = scores, axis = -1)?;
    n.select(nothing, 0.0, probabilities)
}

/// What is added to the scores: the mask, the causal bound, the window, and the bound of padded keys.
fn bias(
    n: &mut Node<'_, '_>,
    query: ValueId,
    key: ValueId,
    past: Option<ValueId>,
    dtype: DType,
) -> Result<Option<ValueId>> {
    let causal = n.flag("is_causal", false)?;
    let left = n.int_or("left_window_size", -1)?;
    let right = n.int_or("right_window_size", -1)?;
    let valid = n.opt(6)?.map(|v| v.id);
    let mut bias: Option<ValueId> = None;
    if let Some(mask) = n.opt(3)? {
        let mut mask = mask.id;
        if n.dtype(mask)? == DType::Bool {
            mask = n.select_as(mask, 0.0, f64::NEG_INFINITY, dtype)?;
        } else {
            mask = n.cast(mask, dtype)?;
        }
        bias = Some(lengthened(n, mask, key)?);
    }
    let mut allowed: Option<ValueId> = None;
    let mut also = |n: &mut Lowering, hit: ValueId| -> Result<()> {
        allowed = Some(match allowed {
            Some(a) => n.and(a, hit)?,
            None => hit,
        });
        Ok(())
    };
    if causal || left >= 0 || right >= 0 {
        // The position of each query among the keys, minus that of each key.
        let rows = n.range_to(&Size::Of(query, 2..3))?;
        let columns = n.range_to(&Size::Of(key, 2..3))?;
        let mut rows = n.expand_dims(rows, &[1])?;
        if let Some(past) = past {
            let offset = n.size_value(&Size::Of(past, 2..3))?;
            rows = n.add(rows, offset)?;
        } else if let Some(valid) = valid {
            let valid = n.as_vector(valid)?;
            let count = n.size_value(&Size::Of(query, 2..3))?;
            let offset = n.sub(valid, count)?;
            let offset = n.expand_dims(offset, &[1, 2, 3])?;
            rows = n.add(rows, offset)?;
        }
        let ahead = n.sub(rows, columns)?;
        if causal {
            let hit = n.greater_equal(ahead, 0.0)?;
            also(n, hit)?;
        }
        if left >= 0 {
            let hit = n.less_equal(ahead, left as f64)?;
            also(n, hit)?;
        }
        if right >= 0 {
            let hit = n.greater_equal(ahead, -right as f64)?;
            also(n, hit)?;
        }
    }
    if let Some(valid) = valid {
        let columns = n.range_to(&Size::Of(key, 2..3))?;
        let valid = n.as_vector(valid)?;
        let valid = n.expand_dims(valid, &[1, 2, 3])?;
        let hit = n.less(columns, valid)?;
        also(n, hit)?;
    }
    let Some(allowed) = allowed else { return Ok(bias) };
    let bound = n.select_as(allowed, 0.0, f64::NEG_INFINITY, dtype)?;
    Ok(Some(match bias {
        Some(bias) => n.add(bias, bound)?,
        None => bound,
    }))
}

/// A mask that is shorter than the keys ends with -∞.
fn lengthened(n: &mut Lowering, mask: ValueId, key: ValueId) -> Result<ValueId> {
    let last = n.rank(mask)?.checked_sub(1).ok_or_else(|| Error::malformed("a mask without dimensions"))?;
    let (own, wanted) = (n.dim(mask, last)?.fixed(), n.dim(key, 2)?.fixed());
    match (own, wanted) {
        (Some(own), Some(wanted)) if own < wanted => {
            let dtype = n.dtype(mask)?;
            let mut sizes = n.sizes_of(mask)?;
            sizes[last] = Size::Fixed(wanted - own);
            let rest = n.full(&sizes, f64::NEG_INFINITY, dtype)?;
            n.concat(vec![mask, rest], last)
        }
        _ => Ok(mask),
    }
}

/// Attention over all keys, with graphs that change the scores and the probabilities.
pub(super) fn flex(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (q, k, v) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let groups = n.size(k.id, 1)?;
    let size = n.size(q.id, 3)?;
    let scale = n.float("scale")?.map_or(1.0 / (size as f64).sqrt(), f64::from);
    let dtype = n.dtype(q.id)?;
    let precision = match n.int("softmax_precision")? {
        Some(code) => cast::elem_of(code)?,
        None if q.elem == Elem::Double => Elem::Double,
        None => Elem::Float,
    };
    let carrier = precision.carried()?;
    let query = n.cast(q.id, carrier)?;
    let key = n.cast(k.id, carrier)?;
    let scores = grouped(n, query, key, true, groups)?;
    let mut scores = n.mul(scores, scale)?;
    scores = changed(n, "score_mod", scores, precision)?;
    let mut probabilities = op!(n, Softmax, x = scores, axis = -1)?;
    probabilities = changed(n, "prob_mod", probabilities, precision)?;
    let probabilities = n.cast(probabilities, dtype)?;
    let y = grouped(n, probabilities, v.id, false, groups)?;
    cast::finish(n, y, q.elem)
}

/// Applies the graph of an attribute, if there is one.
fn changed(n: &mut Node<'_, '_>, name: &'static str, x: ValueId, elem: Elem) -> Result<ValueId> {
    if !n.has_attribute(name) {
        return Ok(x);
    }
    let graph = n.graph(name)?;
    let results = n.subgraph(graph, vec![Val::new(elem, x).into()])?;
    match results.first() {
        Some(Item::Tensor(val)) => {
            let val = val.clone();
            n.value_of(&val)
        }
        _ => Err(Error::malformed(format!("the graph `{name}` gives no tensor"))),
    }
}

/// Rotates pairs of elements by angles that depend on the position.
pub(super) fn rotary(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let (cos, sin) = (n.need(1)?.id, n.need(2)?.id);
    let positions = n.opt(3)?.map(|p| p.id);
    let flat = n.rank(x.id)? == 3;
    let count = match n.int_or("num_heads", 0)? {
        0 if flat => return Err(Error::malformed("`num_heads` is missing")),
        count => usize::try_from(count).unwrap_or(0),
    };
    let interleaved = n.flag("interleaved", false)?;
    let part = usize::try_from(n.int_or("rotary_embedding_dim", 0)?).unwrap_or(0);
    let split = heads(n, x.id, count)?;
    let (cos, sin) = match positions {
        Some(positions) => (n.gather(cos, positions, 0)?, n.gather(sin, positions, 0)?),
        None => (cos, sin),
    };
    let y = rotated(n, split, cos, sin, part, interleaved)?;
    let y = if flat { joined(n, y)? } else { y };
    cast::finish(n, y, x.elem)
}

/// Rotates the first `part` elements (all if 0) of [batch, heads, steps, size] by [batch, steps, part / 2].
pub(super) fn rotated(
    n: &mut Lowering,
    x: ValueId,
    cos: ValueId,
    sin: ValueId,
    part: usize,
    interleaved: bool,
) -> Result<ValueId> {
    let size = n.size(x, 3)?;
    let part = if part == 0 { size } else { part };
    if part > size || part % 2 != 0 {
        return Err(Error::malformed(format!("a rotation of {part} of {size} elements")));
    }
    let half = (part / 2) as i32;
    let (cos, sin) = (n.expand_dims(cos, &[1])?, n.expand_dims(sin, &[1])?);
    let turned = if part == size { x } else { n.cut(x, 3, 0, Some(part as i32))? };
    let (a, b) = if interleaved {
        (n.cut_by(turned, 3, 0, None, 2)?, n.cut_by(turned, 3, 1, None, 2)?)
    } else {
        (n.cut(turned, 3, 0, Some(half))?, n.cut(turned, 3, half, None)?)
    };
    let (ac, bs) = (n.mul(a, cos)?, n.mul(b, sin)?);
    let (as_, bc) = (n.mul(a, sin)?, n.mul(b, cos)?);
    let (real, imaginary) = (n.sub(ac, bs)?, n.add(as_, bc)?);
    let mut y = if interleaved {
        // Side by side, then one after the other.
        let (r, i) = (n.expand_dims(real, &[4])?, n.expand_dims(imaginary, &[4])?);
        let pairs = n.concat(vec![r, i], 4)?;
        let mut sizes = n.sizes_of(turned)?;
        sizes[3] = Size::Fixed(part);
        n.reshape_to(pairs, &sizes)?
    } else {
        n.concat(vec![real, imaginary], 3)?
    };
    if part < size {
        let rest = n.cut(x, 3, part as i32, None)?;
        y = n.concat(vec![y, rest], 3)?;
    }
    Ok(y)
}

/// A state of key times value that decays and is corrected step by step.
pub(super) fn linear(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (q, k, v) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let (past, decay, beta) = (n.opt(3)?, n.opt(4)?, n.opt(5)?);
    let rule = n.text_or("update_rule", "gated_delta")?;
    let (gated, corrected) = match rule {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(Error::malformed(format!("the update rule `{other}`"))),
    };
    // A hint that changes no result.
    n.int("chunk_size")?;
    let (q_heads, kv_heads) = (head_count(n, "q_num_heads", q.id)?, head_count(n, "kv_num_heads", k.id)?);
    if kv_heads == 0 || q_heads % kv_heads != 0 || gated != decay.is_some() || corrected != beta.is_some() {
        return Err(Error::malformed("the heads or inputs do not fit the update rule"));
    }
    let steps = n.size(q.id, 1).map_err(|_| {
        Error::unsupported("linear attention over a number of steps that only a run knows")
            .with_hint("give the model's length of sequences a number")
    })?;
    if steps > 512 {
        return Err(Error::unsupported(format!("linear attention over {steps} steps")).with_hint(
            "the steps are written out: convert the model for at most 512, or for one step with a state",
        ));
    }
    let parts = |n: &mut Lowering, x: ValueId, count: usize| {
        let x = n.float_of(x)?;
        heads(n, x, count)
    };
    let (query, key, value) =
        (parts(n, q.id, q_heads)?, parts(n, k.id, kv_heads)?, parts(n, v.id, kv_heads)?);
    let (dk, dv) = (n.size(key, 3)?, n.size(value, 3)?);
    let scale = match n.float_or("scale", 0.0)? {
        0.0 => 1.0 / (dk as f64).sqrt(),
        scale => f64::from(scale),
    };
    let decay = match decay {
        Some(decay) => {
            let decay = parts(n, decay.id, kv_heads)?;
            let factor = n.un(Exp, decay)?;
            Some(factor)
        }
        None => None,
    };
    let beta = match beta {
        Some(beta) => {
            let count = n.size(beta.id, 2)?;
            Some(parts(n, beta.id, count)?)
        }
        None => None,
    };
    let mut state = match past {
        Some(past) => n.float_of(past.id)?,
        None => n.full(
            &[Size::Of(q.id, 0..1), Size::Fixed(kv_heads), Size::Fixed(dk), Size::Fixed(dv)],
            0.0,
            DType::Fp32,
        )?,
    };
    let mut outputs = Vec::with_capacity(steps);
    for step in 0..steps as i32 {
        let at = |n: &mut Lowering, x: ValueId| n.cut(x, 2, step, Some(step + 1));
        // Rows [batch, heads, 1, size]; a column is a row transposed.
        let (q, k, mut v) = (at(n, query)?, at(n, key)?, at(n, value)?);
        if let Some(decay) = decay {
            let factor = at(n, decay)?;
            let factor = n.transpose(factor, &[0, 1, 3, 2])?;
            state = n.mul(state, factor)?;
        }
        if let Some(beta) = beta {
            let retrieved = n.matmul(k, state, false, false)?;
            let difference = n.sub(v, retrieved)?;
            let rate = at(n, beta)?;
            v = n.mul(difference, rate)?;
        }
        let added = n.matmul(k, v, true, false)?;
        state = n.add(state, added)?;
        let read = grouped(n, q, state, false, kv_heads)?;
        outputs.push(n.mul(read, scale)?);
    }
    let y = n.concat(outputs, 2)?;
    let y = joined(n, y)?;
    let y = n.cast(y, q.elem.carried()?)?;
    let mut results = cast::finish(n, y, q.elem)?;
    let elem = past.map_or(q.elem, |p| p.elem);
    let state = n.cast(state, elem.carried()?)?;
    results.extend(one(state, elem)?);
    Ok(results)
}
