//! Attention as ONNX Runtime's optimizers and its tools for language models write it.

use super::*;
use crate::onnx::{gather, linear, norm, qlinear};

/// Attention of queries to keys; all are [batch, heads, steps, size], and neighboring heads of queries may share one of
/// keys. Returns the result in the same form, and the scores before softmax.
struct Attended {
    y: ValueId,
    scores: ValueId,
}

/// What a step may attend to, and how scores become probabilities.
#[derive(Default)]
struct Rules {
    /// What is added to the scores.
    bias: Option<ValueId>,
    softcap: f64,
    /// A score for each head that takes part in the softmax and stands for nothing.
    sink: Option<ValueId>,
}

fn attend(
    n: &mut Lowering,
    q: ValueId,
    k: ValueId,
    v: ValueId,
    scale: f64,
    rules: &Rules,
) -> Result<Attended> {
    let groups = n.size(k, 1)?;
    let dtype = n.dtype(q)?;
    let scaled = n.mul(q, scale)?;
    let mut scores = grouped(n, scaled, k, true, groups)?;
    if rules.softcap > 0.0 {
        let ratio = n.div(scores, rules.softcap)?;
        let bounded = n.un(Tanh, ratio)?;
        scores = n.mul(bounded, rules.softcap)?;
    }
    if let Some(bias) = rules.bias {
        scores = n.add(scores, bias)?;
    }
    let probabilities = match rules.sink {
        None => op!(n, Softmax, x = scores, axis = -1)?,
        Some(sink) => {
            let column = n.cut(scores, 3, 0, Some(1))?;
            let everywhere = n.equal(column, column)?;
            let sink = n.select(everywhere, sink, sink)?;
            let wide = n.concat(vec![scores, sink], 3)?;
            let all = op!(n, Softmax, x = wide, axis = -1)?;
            n.cut(all, 3, 0, Some(-1))?
        }
    };
    let probabilities = n.cast(probabilities, dtype)?;
    let y = grouped(n, probabilities, v, false, groups)?;
    Ok(Attended { y, scores })
}

/// The attribute `scale`, or 1 / √size. 0 means that, too.
fn scale_of(n: &mut Node<'_, '_>, q: ValueId) -> Result<f64> {
    let size = n.size(q, 3)?;
    Ok(match n.float_or("scale", 0.0)? {
        0.0 => 1.0 / (size as f64).sqrt(),
        scale => f64::from(scale),
    })
}

fn count(n: &mut Node<'_, '_>, name: &'static str) -> Result<usize> {
    let count = n.int(name)?.and_then(|c| usize::try_from(c).ok()).filter(|&c| c > 0);
    count.ok_or_else(|| Error::malformed(format!("`{name}` is missing")))
}

/// Refuses an attribute or input that only ONNX Runtime's kernels for GPUs know, or that shares memory.
fn without(n: &mut Node<'_, '_>, flags: &[&'static str], inputs: &[usize]) -> Result<()> {
    for &name in flags {
        if n.flag(name, false)? {
            return Err(Error::unsupported(format!("attention with `{name}`"))
                .with_hint("build the model without it: it is for caches in the memory of one device"));
        }
    }
    for &i in inputs {
        if n.has(i) {
            return Err(Error::unsupported(format!("attention with its input {i}"))
                .with_hint("build the model without it: it is for caches in the memory of one device"));
        }
    }
    Ok(())
}

/// The bias that a mask of 0 and 1, or the lengths of sequences, mean.
fn padding(n: &mut Node<'_, '_>, mask: ValueId, q: ValueId, k: ValueId) -> Result<ValueId> {
    let filter = f64::from(n.float_or("mask_filter_value", -10000.0)?);
    let dtype = n.dtype(q)?;
    let mask = n.cast(mask, DType::Int32)?;
    let seen = match n.rank(mask)? {
        1 => {
            let columns = n.range_to(&Size::Of(k, 2..3))?;
            let (own, batch) = (n.dim(mask, 0)?, n.dim(q, 0)?);
            let twice = own.fixed().zip(batch.fixed()).is_some_and(|(own, batch)| own == 2 * batch);
            if own != batch && !twice {
                return Err(Error::unsupported("a vector as mask whose size is not that of the batch")
                    .with_hint("give the size of the batch a number: `--size NAME=N`"));
            }
            let batch = if twice { batch.fixed().map(|b| b as i32) } else { None };
            let ends = n.cut(mask, 0, 0, batch)?;
            let ends = n.expand_dims(ends, &[1])?;
            let mut seen = n.less(columns, ends)?;
            if let Some(batch) = batch {
                let starts = n.cut(mask, 0, batch, None)?;
                let starts = n.expand_dims(starts, &[1])?;
                let after = n.greater_equal(columns, starts)?;
                seen = n.and(seen, after)?;
            }
            n.expand_dims(seen, &[1, 2])?
        }
        2 => {
            let seen = n.greater(mask, 0.0)?;
            n.expand_dims(seen, &[1, 2])?
        }
        3 => {
            let seen = n.greater(mask, 0.0)?;
            n.expand_dims(seen, &[1])?
        }
        rank => {
            return Err(Error::unsupported(format!("a mask of {rank} dimensions"))
                .with_hint("give the mask two dimensions (batch, steps), or three"));
        }
    };
    n.select_as(seen, 0.0, filter, dtype)
}

/// The bias that lets each step see only itself and those before it.
fn causal(n: &mut Lowering, q: ValueId, k: ValueId, past: Option<ValueId>) -> Result<ValueId> {
    let (rows, columns) = (n.range_to(&Size::Of(q, 2..3))?, n.range_to(&Size::Of(k, 2..3))?);
    let mut rows = n.expand_dims(rows, &[1])?;
    if let Some(past) = past {
        let offset = n.size_value(&Size::Of(past, 2..3))?;
        rows = n.add(rows, offset)?;
    }
    let seen = n.greater_equal(rows, columns)?;
    let dtype = n.dtype(q)?;
    n.select_as(seen, 0.0, f64::NEG_INFINITY, dtype)
}

fn sum(n: &mut Lowering, biases: impl IntoIterator<Item = Option<ValueId>>) -> Result<Option<ValueId>> {
    let mut total = None;
    for bias in biases.into_iter().flatten() {
        total = Some(match total {
            Some(total) => n.add(total, bias)?,
            None => bias,
        });
    }
    Ok(total)
}

/// Self-attention with its projections: input, one weight for queries, keys and values, and its bias.
pub(in crate::onnx) fn attention(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    without(n, &["do_rotary", "past_present_share_buffer"], &[6])?;
    n.ignore("rotary_embedding_dim");
    let x = n.need(0)?;
    let all = match linear::weight(n, x.id, 1, true, 1.0)? {
        Some((weight, _)) => {
            let inputs = vec![
                crate::lower::In::from(x.id).named(milwright_mil::param!(Linear.x)),
                weight.named(milwright_mil::param!(Linear.weight)),
            ];
            n.op(Linear, inputs)?
        }
        None => {
            let weight = n.value(1)?;
            n.matmul(x.id, weight, false, false)?
        }
    };
    let all = match n.optional(2)? {
        Some(bias) => n.add(all, bias)?,
        None => all,
    };
    own_steps(n, all, x.elem, 3, 4, Some(5))
}

/// The same with input and weight of 8 bits.
pub(in crate::onnx) fn quantized(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    without(n, &["do_rotary", "past_present_share_buffer"], &[])?;
    let elem = n.elem(3)?;
    let all = qlinear::projection(n)?;
    let all = n.cast(all, elem.carried()?)?;
    own_steps(n, all, elem, 5, 8, None)
}

/// Attention of projected steps, queries, keys and values side by side, to each other and to those of the past.
fn own_steps(
    n: &mut Node<'_, '_>,
    all: ValueId,
    elem: Elem,
    mask: usize,
    past: usize,
    bias: Option<usize>,
) -> Result<Vec<V>> {
    let number = count(n, "num_heads")?;
    let width = n.size(all, 2)?;
    let sizes = match n.ints("qkv_hidden_sizes")? {
        Some(&[q, k, v]) if q >= 0 && k >= 0 && v >= 0 && q + k + v == width as i64 => [q, k, v],
        None if width % 3 == 0 => [width as i64 / 3; 3],
        _ => return Err(Error::malformed(format!("{width} columns of queries, keys and values"))),
    };
    let mut parts = Vec::with_capacity(3);
    let mut start = 0;
    for size in sizes {
        let end = start + size as i32;
        let part = n.cut(all, 2, start, Some(end))?;
        parts.push(heads(n, part, number)?);
        start = end;
    }
    let (q, mut k, mut v) = (parts[0], parts[1], parts[2]);
    let past = n.optional(past)?;
    let mut past_key = None;
    if let Some(past) = past {
        let (key, value) = (n.take_one(past, 0, 0)?, n.take_one(past, 0, 1)?);
        k = n.concat(vec![key, k], 2)?;
        v = n.concat(vec![value, v], 2)?;
        past_key = Some(key);
    }
    let padded = match n.optional(mask)? {
        Some(mask) => Some(padding(n, mask, q, k)?),
        None => None,
    };
    let ahead = if n.flag("unidirectional", false)? { Some(causal(n, q, k, past_key)?) } else { None };
    let given = match bias {
        Some(i) => n.optional(i)?,
        None => None,
    };
    let rules = Rules { bias: sum(n, [padded, ahead, given])?, ..Rules::default() };
    n.ignore("mask_filter_value");
    let scale = scale_of(n, q)?;
    let attended = attend(n, q, k, v, scale, &rules)?;
    let y = joined(n, attended.y)?;
    let mut results = cast::finish(n, y, elem)?;
    if n.wants(1) {
        let (k, v) = (n.expand_dims(k, &[0])?, n.expand_dims(v, &[0])?);
        let present = n.concat(vec![k, v], 0)?;
        results.push(V { id: present, elem });
    }
    Ok(results)
}

/// The places of the inputs of the two ops for attention whose projections are other nodes.
pub(in crate::onnx) struct Places {
    bias: usize,
    mask: usize,
    added: usize,
    past: [usize; 2],
    shared: &'static [usize],
}

/// `MultiHeadAttention`
pub(in crate::onnx) const MULTI_HEAD: Places =
    Places { bias: 3, mask: 4, added: 5, past: [6, 7], shared: &[8, 9] };
/// `DecoderMaskedMultiHeadAttention`
pub(in crate::onnx) const DECODER: Places =
    Places { bias: 10, mask: 3, added: 4, past: [5, 6], shared: &[7, 8, 9] };

/// Attention of queries to keys and values, which may be packed, projected before, or of the past.
pub(in crate::onnx) fn multi_head(n: &mut Node<'_, '_>, places: &Places) -> Result<Vec<V>> {
    without(n, &["past_present_share_buffer"], places.shared)?;
    n.ignore("output_qk");
    let number = count(n, "num_heads")?;
    let query = n.need(0)?;
    let elem = query.elem;
    let (key, value) = (n.optional(1)?, n.optional(2)?);
    // Each as [batch, steps, heads · size], or as [batch, heads, steps, size] if nothing is to be added to it.
    let unpacked = |n: &mut Lowering, x: ValueId, i: i32| -> Result<ValueId> {
        let part = n.take_one(x, 3, i)?;
        let size = n.size(part, 2)? * n.size(part, 3)?;
        n.reshape_to(part, &[Size::Of(part, 0..1), Size::Of(part, 1..2), Size::Fixed(size)])
    };
    let mut parts = match (n.rank(query.id)?, key, value) {
        (5, None, None) => [unpacked(n, query.id, 0)?, unpacked(n, query.id, 1)?, unpacked(n, query.id, 2)?],
        (3, None, None) => {
            let width = n.size(query.id, 2)?;
            let third = (width / 3) as i32;
            let part = |n: &mut Lowering, i: i32| n.cut(query.id, 2, i * third, Some((i + 1) * third));
            [part(n, 0)?, part(n, 1)?, part(n, 2)?]
        }
        (3, Some(key), None) if n.rank(key)? == 5 => [query.id, unpacked(n, key, 0)?, unpacked(n, key, 1)?],
        (3, Some(key), Some(value)) => [query.id, key, value],
        _ => return Err(Error::malformed("its query, key and value do not fit each other")),
    };
    if let Some(bias) = n.optional(places.bias)? {
        let mut start = 0;
        for part in &mut parts {
            let size = match n.rank(*part)? {
                3 => n.size(*part, 2)?,
                _ => n.size(*part, 1)? * n.size(*part, 3)?,
            };
            let end = start + size as i32;
            if n.rank(*part)? == 3 {
                let own = n.cut(bias, 0, start, Some(end))?;
                *part = n.add(*part, own)?;
            }
            start = end;
        }
    }
    let [q, k, v] = parts;
    let (q, mut k, mut v) = (heads(n, q, number)?, heads(n, k, number)?, heads(n, v, number)?);
    let (past_key, past_value) = (n.optional(places.past[0])?, n.optional(places.past[1])?);
    if let (Some(past_key), Some(past_value)) = (past_key, past_value) {
        k = n.concat(vec![past_key, k], 2)?;
        v = n.concat(vec![past_value, v], 2)?;
    }
    let padded = match n.optional(places.mask)? {
        Some(mask) => Some(padding(n, mask, q, k)?),
        None => None,
    };
    let ahead = if n.flag("unidirectional", false)? { Some(causal(n, q, k, past_key)?) } else { None };
    let added = n.optional(places.added)?;
    let rules = Rules { bias: sum(n, [padded, ahead, added])?, ..Rules::default() };
    n.ignore("mask_filter_value");
    let scale = scale_of(n, q)?;
    let attended = attend(n, q, k, v, scale, &rules)?;
    let y = joined(n, attended.y)?;
    let mut results = cast::finish(n, y, elem)?;
    results.extend([V { id: k, elem }, V { id: v, elem }]);
    results.extend(cast::finish(n, attended.scores, elem)?);
    Ok(results)
}

/// Attention with a cache of keys and values, which several heads of queries share.
pub(in crate::onnx) fn group_query(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    without(n, &["sliding_window_cache"], &[12, 13, 16])?;
    for name in ["k_quant_type", "v_quant_type"] {
        if n.text_or(name, "NONE")? != "NONE" {
            return Err(Error::unsupported(format!("a quantized cache (`{name}`)"))
                .with_hint("build the model with a cache of floats"));
        }
    }
    n.ignore("kv_cache_bit_width");
    if n.int_or("qk_output", 0)? != 0 {
        return Err(Error::unsupported("attention that also returns its scores (`qk_output`)")
            .with_hint("build the model without that output"));
    }
    let (number, shared) = (count(n, "num_heads")?, count(n, "kv_num_heads")?);
    if number % shared != 0 {
        return Err(Error::malformed(format!("{number} heads of queries and {shared} of keys")));
    }
    let query = n.need(0)?;
    let elem = query.elem;
    let (q, k, v) = match (n.optional(1)?, n.optional(2)?) {
        (Some(k), Some(v)) => (query.id, k, v),
        (None, None) => {
            let width = n.size(query.id, 2)?;
            let size = width / (number + 2 * shared);
            let (a, b) = ((number * size) as i32, ((number + shared) * size) as i32);
            let q = n.cut(query.id, 2, 0, Some(a))?;
            (q, n.cut(query.id, 2, a, Some(b))?, n.cut(query.id, 2, b, None)?)
        }
        _ => return Err(Error::malformed("a key without a value")),
    };
    let (mut q, mut k, v) = (heads(n, q, number)?, heads(n, k, shared)?, heads(n, v, shared)?);
    if let (Some(of_q), Some(of_k)) = (n.optional(14)?, n.optional(15)?) {
        let common = n.float_or("qk_norm_epsilon", 1e-6)?;
        for (x, weight, name) in [(&mut q, of_q, "q_norm_epsilon"), (&mut k, of_k, "k_norm_epsilon")] {
            let epsilon = n.float_or(name, common)?;
            let y = norm::rms_of(n, *x, &[3], epsilon.into())?;
            *x = n.mul(y, weight)?;
        }
    }
    // How many steps each sequence has with this call, and how many it had before.
    let ends = n.need(5)?.id;
    let ends = n.as_vector(ends)?;
    let ends = n.add(ends, 1.0)?;
    let (past_key, past_value) = (n.optional(3)?, n.optional(4)?);
    let past = match (past_key, past_value) {
        (Some(key), Some(value)) if n.dim(key, 2)?.fixed() != Some(0) => Some((key, value)),
        _ => None,
    };
    let steps = n.size_value(&Size::Of(q, 2..3))?;
    let total = n.need(6)?.id;
    let total = n.scalar(total)?;
    let total = n.int_of(total)?;
    let starts = match past {
        None => n.mul(ends, 0.0)?,
        Some(_) => {
            let first = n.equal(total, steps)?;
            let before = n.sub(ends, steps)?;
            n.select(first, 0.0, before)?
        }
    };
    let starts = n.expand_dims(starts, &[1])?;
    let rows = n.range_to(&Size::Of(q, 2..3))?;
    let rows = n.add(starts, rows)?;
    if n.flag("do_rotary", false)? {
        let (cos, sin) = (n.need(7)?.id, n.need(8)?.id);
        let positions = n.optional(9)?.unwrap_or(rows);
        let interleaved = n.flag("rotary_interleaved", false)?;
        q = turned(n, q, cos, sin, positions, interleaved)?;
        k = turned(n, k, cos, sin, positions, interleaved)?;
    } else {
        n.ignore("rotary_interleaved");
    }
    let (k, v) = match past {
        None => (k, v),
        Some((past_key, past_value)) => {
            let old = n.size_value(&Size::Of(past_key, 2..3))?;
            let length = n.max(old, total)?;
            let columns = n.range(length)?;
            // From the cache what was there before, then what is new, then nothing.
            let moved = n.sub(columns, starts)?;
            let moved = n.add(moved, old)?;
            let before = n.less(columns, starts)?;
            let from = n.select(before, columns, moved)?;
            let ends = n.expand_dims(ends, &[1])?;
            let filled = n.less(columns, ends)?;
            let from = n.select(filled, from, 0.0)?;
            (cached(n, past_key, k, from, filled)?, cached(n, past_value, v, from, filled)?)
        }
    };
    // [batch, steps, columns]
    let columns = n.range_to(&Size::Of(k, 2..3))?;
    let is_causal = n.flag("causal", true)?;
    let rows = n.expand_dims(rows, &[2])?;
    let mut seen = if is_causal {
        n.greater_equal(rows, columns)?
    } else {
        let ends = n.expand_dims(ends, &[1, 2])?;
        n.less(columns, ends)?
    };
    let window = n.int_or("local_window_size", -1)?;
    if window > 0 {
        let reach = n.sub(rows, window as f64)?;
        let near = n.greater(columns, reach)?;
        seen = n.and(seen, near)?;
    }
    let seen = n.expand_dims(seen, &[1])?;
    let dtype = n.dtype(q)?;
    let hidden = n.select_as(seen, 0.0, f64::NEG_INFINITY, dtype)?;
    let given = match n.optional(10)? {
        // The bias is as long as all steps, the cache may be longer.
        Some(given) => Some(lengthened(n, given, k)?),
        None => None,
    };
    let sink = match n.optional(11)? {
        Some(sink) => Some(n.expand_dims(sink, &[1, 2])?),
        None if n.int_or("smooth_softmax", -1)? == 1 => {
            Some(n.full(&[Size::Fixed(number), Size::Fixed(1), Size::Fixed(1)], 0.0, dtype)?)
        }
        None => None,
    };
    n.ignore("smooth_softmax");
    let softcap = f64::from(n.float_or("softcap", 0.0)?);
    let rules = Rules { bias: sum(n, [Some(hidden), given])?, softcap, sink };
    let scale = scale_of(n, q)?;
    let attended = attend(n, q, k, v, scale, &rules)?;
    let y = joined(n, attended.y)?;
    let mut results = cast::finish(n, y, elem)?;
    results.extend([V { id: k, elem }, V { id: v, elem }]);
    Ok(results)
}

/// The rows of a cache followed by new ones, at these places for each sequence; zeros where there is none.
fn cached(n: &mut Lowering, old: ValueId, new: ValueId, from: ValueId, filled: ValueId) -> Result<ValueId> {
    let all = n.concat(vec![old, new], 2)?;
    let from = n.expand_dims(from, &[1, 3])?;
    let sizes = [Size::Of(from, 0..1), Size::Of(all, 1..2), Size::Of(from, 2..3), Size::Of(all, 3..4)];
    let from = n.broadcast_to(from, &sizes)?;
    let y = op!(n, GatherAlongAxis, x = all, indices = from, axis = 2)?;
    let filled = n.expand_dims(filled, &[1, 3])?;
    n.select(filled, y, 0.0)
}

/// Rotates [batch, heads, steps, size] by the angles of positions, [batch, steps].
fn turned(
    n: &mut Lowering,
    x: ValueId,
    cos: ValueId,
    sin: ValueId,
    positions: ValueId,
    interleaved: bool,
) -> Result<ValueId> {
    let part = 2 * n.size(cos, 1)?;
    let positions = gather::from_front(n, positions, cos, 0)?;
    let (cos, sin) = (n.gather(cos, positions, 0)?, n.gather(sin, positions, 0)?);
    rotated(n, x, cos, sin, part, interleaved)
}

/// ONNX Runtime's `RotaryEmbedding`: the positions come before the tables, and may be one offset.
pub(in crate::onnx) fn rotary(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    without(n, &["is_packed_batching"], &[])?;
    let (x, positions) = (n.need(0)?, n.need(1)?);
    let (cos, sin) = (n.need(2)?.id, n.need(3)?.id);
    if n.float_or("scale", 1.0)? != 1.0 {
        return Err(Error::unsupported("a rotation with a scale")
            .with_hint("multiply the tables of cosines and sines with it"));
    }
    let interleaved = n.flag("interleaved", false)?;
    let flat = n.rank(x.id)? == 3;
    let part = usize::try_from(n.int_or("rotary_embedding_dim", 0)?).unwrap_or(0);
    let number = match usize::try_from(n.int_or("num_heads", 0)?).unwrap_or(0) {
        0 if flat => n.size(x.id, 2)? / (2 * n.size(cos, 1)?).max(1),
        number => number,
    };
    if flat && part > 0 && 2 * n.size(cos, 1)? != part {
        return Err(Error::malformed(format!("a rotation of {part} elements by tables of another size")));
    }
    let split = heads(n, x.id, number)?;
    let positions = match n.rank(positions.id)? {
        2 => positions.id,
        _ => {
            let steps = n.range_to(&Size::Of(split, 2..3))?;
            let offset = n.scalar(positions.id)?;
            let rows = n.add(steps, offset)?;
            n.expand_dims(rows, &[0])?
        }
    };
    let y = turned(n, split, cos, sin, positions, interleaved)?;
    let y = if flat { joined(n, y)? } else { y };
    cast::finish(n, y, x.elem)
}

/// Queries and keys, each times the cosine plus its rotated half times the sine of an embedding.
pub(in crate::onnx) fn gemma_rotary(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let angle = n.need(0)?.id;
    let (sin, cos) = (n.un(Sin, angle)?, n.un(Cos, angle)?);
    let mut results = Vec::with_capacity(2);
    for i in [1, 3] {
        let (x, half) = (n.need(i)?, n.need(i + 1)?);
        let dtype = n.dtype(x.id)?;
        let mut parts = Vec::with_capacity(2);
        for (x, table) in [(x.id, cos), (half.id, sin)] {
            let table = n.cast(table, dtype)?;
            let table = n.expand_dims(table, &[1])?;
            parts.push(n.mul(x, table)?);
        }
        let y = n.add(parts[0], parts[1])?;
        results.extend(cast::finish(n, y, x.elem)?);
    }
    Ok(results)
}
