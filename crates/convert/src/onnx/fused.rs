//! Ops of ONNX Runtime that do the work of several: its optimizers write them.

use milwright_mil::OpKind::*;
use milwright_mil::ValueId;

use super::activation::{parametric, swish_of};
use super::compose::{V, one};
use super::elem::Elem;
use super::node::Node;
use super::{cast, conv, gather, layout, linear, norm, qlinear};
use crate::Error;
use crate::lower::{In, Lowering, Result, Size, op};

/// gelu(x), or gelu(x + bias) if there is a second input.
pub(super) fn gelu(n: &mut Node<'_, '_>, mode: &str) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let x = match n.optional(1)? {
        Some(bias) => n.add(v.id, bias)?,
        None => v.id,
    };
    let y = op!(n, Gelu, x = x, mode = mode)?;
    cast::finish(n, y, v.elem)
}

/// x · sigmoid(α · x).
pub(super) fn quick_gelu(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let alpha = n.float_or("alpha", 1.702)?;
    let y = swish_of(n, v.id, alpha)?;
    cast::finish(n, y, v.elem)
}

/// The left half of x + bias times the gelu of the right half.
pub(super) fn bias_split_gelu(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, bias) = (n.need(0)?, n.need(1)?);
    let sum = n.add(v.id, bias.id)?;
    let last = n.rank(sum)? - 1;
    let half = (n.size(sum, last)? / 2) as i32;
    let (left, right) = (n.cut(sum, last, 0, Some(half))?, n.cut(sum, last, half, None)?);
    let right = op!(n, Gelu, x = right, mode = "EXACT")?;
    let y = n.mul(left, right)?;
    cast::finish(n, y, v.elem)
}

/// x + bias + skip.
pub(super) fn bias_add(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, bias, skip) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let sum = n.add(v.id, bias.id)?;
    let y = n.add(sum, skip.id)?;
    cast::finish(n, y, v.elem)
}

/// The activation that a fused op ends with.
fn activated(n: &mut Node<'_, '_>, x: ValueId, parameters: &[f32]) -> Result<ValueId> {
    let Some(name) = n.text("activation")? else { return Ok(x) };
    let p = |i: usize, default: f32| f64::from(parameters.get(i).copied().unwrap_or(default));
    match name {
        "" => Ok(x),
        "Relu" => n.un(Relu, x),
        "Tanh" => n.un(Tanh, x),
        "Sigmoid" => n.un(Sigmoid, x),
        "Softplus" => n.un(Softplus, x),
        "Softsign" => n.un(Softsign, x),
        "LeakyRelu" => parametric(n, x, LeakyRelu, p(0, 0.01), None),
        "Elu" => parametric(n, x, Elu, p(0, 1.0), None),
        "HardSigmoid" => parametric(n, x, SigmoidHard, p(0, 0.2), Some(p(1, 0.5))),
        "HardSwish" => {
            let gate = parametric(n, x, SigmoidHard, p(0, 1.0 / 6.0), Some(p(1, 0.5)))?;
            n.mul(x, gate)
        }
        "Clip" => {
            let y = n.max(x, p(0, f32::MIN))?;
            n.min(y, p(1, f32::MAX))
        }
        other => Err(Error::unsupported(format!("the fused activation {other}"))
            .with_hint("optimize the model again at a lower level, or convert the model that was optimized")),
    }
}

/// A convolution, plus another tensor, with an activation.
pub(super) fn conv(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = conv::conv(n)?.swap_remove(0);
    let mut y = v.id;
    if let Some(other) = n.optional(3)? {
        y = n.add(y, other)?;
    }
    let parameters = n.floats("activation_params")?.unwrap_or_default();
    let y = activated(n, y, parameters)?;
    one(y, v.elem)
}

/// The same with the channels last.
pub(super) fn nhwc_conv(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let x = layout::channels_second(n, v.id)?;
    let y = conv::conv_of(n, V { id: x, elem: v.elem })?;
    let mut y = layout::channels_last(n, y)?;
    if let Some(other) = n.optional(3)? {
        y = n.add(y, other)?;
    }
    let parameters = n.floats("activation_params")?.unwrap_or_default();
    let y = activated(n, y, parameters)?;
    cast::finish(n, y, v.elem)
}

/// `Gemm` with an activation.
pub(super) fn gemm(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let val = linear::gemm(n)?;
    let y = n.value_of(&val)?;
    let mut parameters = Vec::new();
    for name in ["activation_alpha", "activation_beta", "activation_gamma"] {
        parameters.extend(n.float(name)?);
    }
    let y = activated(n, y, &parameters)?;
    one(y, val.elem)
}

/// α · A · B, each of which may be transposed.
pub(super) fn matmul(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let alpha = n.float_or("alpha", 1.0)?;
    let (mut a, trans_a, batch_a) = (v.id, n.flag("transA", false)?, n.flag("transBatchA", false)?);
    let (trans_b, batch_b) = (n.flag("transB", false)?, n.flag("transBatchB", false)?);
    if batch_a {
        a = batch_second(n, a)?;
    }
    if !trans_a
        && !batch_b
        && n.rank(a)? >= 2
        && let Some((weight, _)) = linear::weight(n, a, 1, !trans_b, alpha)?
    {
        let inputs = vec![
            In::from(a).named(milwright_mil::param!(Linear.x)),
            weight.named(milwright_mil::param!(Linear.weight)),
        ];
        let y = n.op(Linear, inputs)?;
        let y = activated(n, y, &[])?;
        return cast::finish(n, y, v.elem);
    }
    let mut b = n.value(1)?;
    if batch_b {
        b = batch_second(n, b)?;
    }
    let vectors = n.rank(a)? < 2 || n.rank(b)? < 2;
    let y = if vectors { linear::product(n, a, b)? } else { n.matmul(a, b, trans_a, trans_b)? };
    let y = if alpha == 1.0 { y } else { n.mul(y, f64::from(alpha))? };
    let y = activated(n, y, &[])?;
    cast::finish(n, y, v.elem)
}

/// The first dimension moves behind the other dimensions of the batch: to before the last.
fn batch_second(n: &mut Lowering, x: ValueId) -> Result<ValueId> {
    let rank = n.rank(x)?;
    let mut order: Vec<usize> = (0..rank).collect();
    if rank >= 2 {
        order[..rank - 1].rotate_left(1);
    }
    n.transpose(x, &order)
}

/// The layer normalization of x + skip + bias, and that sum as the fourth result.
pub(super) fn skip_layer(n: &mut Node<'_, '_>, simplified: bool) -> Result<Vec<V>> {
    let (v, skip, scale) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let (shift, bias) = if simplified { (None, n.opt(3)?) } else { (n.opt(3)?, n.opt(4)?) };
    let epsilon = f64::from(n.float_or("epsilon", 1e-12)?);
    if n.wants(1) || n.wants(2) {
        return Err(Error::unsupported("the statistics of a skip layer normalization")
            .with_hint("they serve training only: export the model for inference"));
    }
    let mut sum = n.add(v.id, skip.id)?;
    if let Some(bias) = bias {
        sum = n.add(sum, bias.id)?;
    }
    let last = n.rank(sum)? - 1;
    let y = if simplified {
        let y = norm::rms_of(n, sum, &[last], epsilon)?;
        n.mul(y, scale.id)?
    } else {
        norm::layer_of(n, sum, Some(scale.id), shift.map(|s| s.id), &[last], epsilon)?
    };
    let mut results = cast::finish(n, y, v.elem)?;
    // Statistics, which nobody asks for.
    results.extend([V { id: sum, elem: v.elem }, V { id: sum, elem: v.elem }]);
    results.extend(cast::finish(n, sum, v.elem)?);
    Ok(results)
}

/// Where the inputs of a sum of embeddings are.
pub(super) struct Embedding {
    segment_ids: usize,
    words: usize,
    positions: usize,
    segments: usize,
    scale: usize,
    shift: usize,
    mask: usize,
    places: Option<usize>,
    /// The first of the scales of the five tables, if they are codes; their zero points follow.
    scales: Option<usize>,
}

/// `EmbedLayerNormalization`
pub(super) const EMBED: Embedding = Embedding {
    segment_ids: 1,
    words: 2,
    positions: 3,
    segments: 4,
    scale: 5,
    shift: 6,
    mask: 7,
    places: Some(8),
    scales: None,
};
/// `QEmbedLayerNormalization`
pub(super) const QUANTIZED_EMBED: Embedding = Embedding { places: None, scales: Some(8), ..EMBED };

/// The layer normalization of the sum of embeddings of words, positions and segments; the number of words of each
/// sequence; and the sum.
pub(super) fn embed_layer(n: &mut Node<'_, '_>, at: &Embedding) -> Result<Vec<V>> {
    let ids = n.need(0)?;
    let epsilon = f64::from(n.float_or("epsilon", 1e-12)?);
    let elem = if at.scales.is_some() { Elem::Float } else { n.elem(at.words)? };
    let table = |n: &mut Node<'_, '_>, i: usize| -> Result<ValueId> {
        let Some(scales) = at.scales else { return n.value(i) };
        // Words, positions, segments, scale and shift, in this order.
        let order = [at.words, at.positions, at.segments, at.scale, at.shift];
        let place = order.iter().position(|&o| o == i).unwrap_or(0);
        qlinear::operand(n, qlinear::At { codes: i, scale: scales + place, zero: scales + 5 + place })
    };
    let look_up = |n: &mut Node<'_, '_>, i: usize, ids: ValueId| -> Result<ValueId> {
        let table = table(n, i)?;
        let ids = gather::from_front(n, ids, table, 0)?;
        n.gather(table, ids, 0)
    };
    let mut sum = look_up(n, at.words, ids.id)?;
    let places = match at.places {
        Some(places) => n.optional(places)?,
        None => None,
    };
    let places = match places {
        Some(places) => places,
        None => {
            let places = n.range_to(&Size::Of(ids.id, 1..2))?;
            n.expand_dims(places, &[0])?
        }
    };
    let positions = look_up(n, at.positions, places)?;
    sum = n.add(sum, positions)?;
    if let Some(segments) = n.optional(at.segment_ids)? {
        let segments = look_up(n, at.segments, segments)?;
        sum = n.add(sum, segments)?;
    }
    let (scale, shift) = (table(n, at.scale)?, table(n, at.shift)?);
    let y = norm::layer_of(n, sum, Some(scale), Some(shift), &[2], epsilon)?;
    let mut results = cast::finish(n, y, elem)?;
    n.ignore("mask_index_type");
    let count = match n.optional(at.mask)? {
        Some(mask) => {
            let hit = n.equal(mask, 1.0)?;
            let hit = n.cast(hit, milwright_mil::DType::Int32)?;
            n.sum(hit, &[1], false)?
        }
        None => n.full(&[Size::Of(ids.id, 0..1)], 0.0, milwright_mil::DType::Int32)?,
    };
    results.push(V { id: count, elem: Elem::Int32 });
    results.push(V { id: sum, elem });
    Ok(results)
}

/// Group normalization with the channels last, of x or of x + skip + bias, and maybe silu.
pub(super) fn group(n: &mut Node<'_, '_>, skips: bool) -> Result<Vec<V>> {
    let (v, scale, shift) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let epsilon = f64::from(n.float_or("epsilon", 1e-5)?);
    let groups = usize::try_from(n.int_or("groups", 0)?).unwrap_or(0);
    let silu = n.int_or("activation", 0)? == 1;
    let last = n.flag("channels_last", true)?;
    let mut x = if last { layout::channels_second(n, v.id)? } else { v.id };
    let rank = n.rank(x)?;
    if skips {
        let mut skip = n.need(3)?.id;
        match n.rank(skip)? {
            2 => skip = norm::per_channel(n, skip, rank)?,
            _ if last => skip = layout::channels_second(n, skip)?,
            _ => {}
        }
        x = n.add(x, skip)?;
        if let Some(bias) = n.optional(4)? {
            let bias = norm::per_channel(n, bias, rank)?;
            x = n.add(x, bias)?;
        }
    }
    let channels = n.size(x, 1)?;
    if groups == 0 || channels % groups != 0 {
        return Err(Error::malformed(format!("{channels} channels in {groups} groups")));
    }
    let mut y = norm::groups_of(n, x, groups, epsilon)?;
    let dtype = n.dtype(y)?;
    for (p, kind) in [(scale.id, Mul), (shift.id, Add)] {
        let p = n.cast(p, dtype)?;
        let p = norm::per_channel(n, p, rank)?;
        y = n.bin(kind, y, p)?;
    }
    if silu {
        y = n.un(Silu, y)?;
    }
    let mut results = Vec::with_capacity(2);
    for value in [y, x] {
        let value = if last { layout::channels_last(n, value)? } else { value };
        results.extend(cast::finish(n, value, v.elem)?);
    }
    Ok(results)
}

/// A dimension of size 1 at a place that is an input.
pub(super) fn expand_dims(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let axis = n.ints_of(1, "the axis")?;
    let &[axis] = &axis[..] else { return Err(Error::malformed("several axes")) };
    let axis = crate::lower::normalize(axis, n.rank(v.id)? + 1)?;
    let y = n.expand_dims(v.id, &[axis as i32])?;
    one(y, v.elem)
}

/// Unique numbers in the order in which they occur first, the place of each in them, and how often each occurs.
pub(super) fn unique(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let results = super::select::unique_of(n, false, None)?;
    let &[y, _, inverse, counts] = &results[..] else { return Err(Error::malformed("four results")) };
    Ok(vec![y, inverse, counts])
}
