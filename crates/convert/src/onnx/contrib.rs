//! Ops of ONNX Runtime's own that fit nowhere else.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, ValueId};

use super::activation::swish_of;
use super::compose::V;
use super::node::Node;
use super::{cast, packed};
use crate::Error;
use crate::lower::{Lowering, Result, Size, op};

/// The inverse of the last two dimensions, by elimination with the largest pivot of each column.
pub(super) fn inverse(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let rank = n.rank(v.id)?;
    if rank < 2 {
        return Err(Error::malformed("the inverse of a vector"));
    }
    let size = n.size(v.id, rank - 1)?;
    if n.size(v.id, rank - 2)? != size {
        return Err(Error::malformed("the inverse of a matrix that is not square"));
    }
    if size > 64 {
        return Err(Error::unsupported(format!("the inverse of {size} × {size}"))
            .with_hint("Core ML has no inverse of matrices; up to 64 × 64 it is written out"));
    }
    let dtype = n.dtype(v.id)?;
    let flat = match rank {
        2 => n.expand_dims(v.id, &[0])?,
        _ => n.reshape_to(v.id, &[Size::Of(v.id, 0..rank - 2), Size::Fixed(size), Size::Fixed(size)])?,
    };
    // The identity beside the matrix; what turns the matrix into the identity turns that into the inverse.
    let mut ones = vec![0.0; size * size];
    (0..size).for_each(|i| ones[i * size + i] = 1.0);
    let ones = n.float_tensor(&[1, size, size], ones, dtype)?;
    let zeros = n.mul(flat, 0.0)?;
    let ones = n.add(zeros, ones)?;
    let mut all = n.concat(vec![flat, ones], 2)?;
    let places = n.int_tensor(&[1, size, 1], (0..size as i32).collect())?;
    let mut used: Option<ValueId> = None;
    let mut order = Vec::with_capacity(size);
    for k in 0..size as i32 {
        let column = n.cut(all, 2, k, Some(k + 1))?;
        let mut a = n.un(Abs, column)?;
        if let Some(used) = used {
            a = n.select(used, -1.0, a)?;
        }
        let best = op!(n, ReduceArgmax, x = a, axis = 1, keep_dims = true)?;
        let hit = n.equal(best, places)?;
        let weight = n.cast(hit, dtype)?;
        let row = n.mul(all, weight)?;
        let row = n.sum(row, &[1], true)?;
        let pivot = n.cut(row, 2, k, Some(k + 1))?;
        let row = n.div(row, pivot)?;
        let steps = n.mul(column, row)?;
        let others = n.sub(all, steps)?;
        all = n.select(hit, row, others)?;
        used = Some(match used {
            Some(used) => n.or(used, hit)?,
            None => hit,
        });
        order.push(weight);
    }
    let order = n.concat(order, 2)?;
    let right = n.cut(all, 2, size as i32, None)?;
    let y = n.matmul(order, right, true, false)?;
    let sizes = n.sizes_of(v.id)?;
    let y = n.reshape_to(y, &sizes)?;
    cast::finish(n, y, v.elem)
}

/// The distance of each row of one matrix to each of another.
pub(super) fn cdist(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (a, b) = (n.need(0)?, n.need(1)?);
    let metric = n.text_or("metric", "sqeuclidean")?;
    let (rows, columns) = (n.expand_dims(a.id, &[1])?, n.expand_dims(b.id, &[0])?);
    let apart = n.sub(rows, columns)?;
    let square = n.mul(apart, apart)?;
    let sum = n.sum(square, &[2], false)?;
    let y = match metric {
        "sqeuclidean" => sum,
        "euclidean" => n.un(Sqrt, sum)?,
        other => {
            return Err(Error::unsupported(format!("the metric `{other}`"))
                .with_hint("ONNX Runtime has `euclidean` and `sqeuclidean`"));
        }
    };
    cast::finish(n, y, a.elem)
}

/// Cuts boxes out of images and resizes them, the corners being samples.
pub(super) fn crop_and_resize(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, boxes, which) = (n.need(0)?, n.need(1)?, n.need(2)?);
    let size = n.ints_of(3, "the size of the crops")?;
    let &[height, width] = &size[..] else { return Err(Error::malformed("a crop without two sizes")) };
    if !(1..=1 << 14).contains(&height) || !(1..=1 << 14).contains(&width) {
        return Err(Error::malformed(format!("crops of {height} × {width}")));
    }
    let nearest = match n.text_or("mode", "bilinear")? {
        "bilinear" => false,
        "nearest" => true,
        other => return Err(Error::malformed(format!("the mode `{other}`"))),
    };
    let outside = f64::from(n.float_or("extrapolation_value", 0.0)?);
    let dtype = n.dtype(v.id)?;
    let images = n.gather(v.id, which.id, 0)?;
    let boxes = n.float_of(boxes.id)?;
    // For each direction the samples [boxes, size], and whether they are inside of the image.
    let along = |n: &mut Node<'_, '_>, first: i32, count: i64, axis: usize| -> Result<(ValueId, ValueId)> {
        let (low, high) =
            (n.cut(boxes, 1, first, Some(first + 1))?, n.cut(boxes, 1, first + 2, Some(first + 3))?);
        let last = n.size_value(&Size::Of(v.id, axis..axis + 1))?;
        let last = n.sub(last, 1.0)?;
        let last = n.float_of(last)?;
        let at = if count == 1 {
            let sum = n.add(low, high)?;
            let middle = n.mul(sum, 0.5)?;
            n.mul(middle, last)?
        } else {
            let extent = n.sub(high, low)?;
            let extent = n.mul(extent, last)?;
            let step = n.div(extent, (count - 1) as f64)?;
            let places: Vec<f32> = (0..count).map(|i| i as f32).collect();
            let places = n.float_tensor(&[1, count as usize], places, DType::Fp32)?;
            let moved = n.mul(step, places)?;
            let start = n.mul(low, last)?;
            n.add(start, moved)?
        };
        let (after, before) = (n.greater_equal(at, 0.0)?, n.less_equal(at, last)?);
        let inside = n.and(after, before)?;
        let at = if nearest {
            let up = n.add(at, 0.5)?;
            n.un(Floor, up)?
        } else {
            at
        };
        Ok((at, inside))
    };
    let (y, in_y) = along(n, 0, height, 2)?;
    let (x, in_x) = along(n, 1, width, 3)?;
    let (y, x) = (n.expand_dims(y, &[2, 3])?, n.expand_dims(x, &[1, 3])?);
    let nothing = n.mul(x, 0.0)?;
    let y = n.add(y, nothing)?;
    let nothing = n.mul(y, 0.0)?;
    let x = n.add(x, nothing)?;
    let places = n.concat(vec![x, y], 3)?;
    let zero = n.number(dtype, 0.0)?;
    let sampled = op!(
        n,
        Resample,
        x = images,
        coordinates = places,
        sampling_mode = "bilinear",
        padding_mode = "border",
        padding_value = zero,
        coordinates_mode = "unnormalized",
        align_corners = true
    )?;
    let (in_y, in_x) = (n.expand_dims(in_y, &[1, 3])?, n.expand_dims(in_x, &[1, 2])?);
    let inside = n.and(in_y, in_x)?;
    let result = n.select(inside, sampled, outside)?;
    cast::finish(n, result, v.elem)
}

/// One layer of all experts.
pub(super) struct Layer {
    /// For each expert, outputs × inputs.
    pub weights: Vec<ValueId>,
    /// Experts × outputs.
    pub biases: Option<ValueId>,
}

impl Layer {
    /// What an expert makes of rows.
    fn of(&self, n: &mut Lowering, x: ValueId, expert: usize) -> Result<ValueId> {
        let y = n.matmul(x, self.weights[expert], false, true)?;
        match self.biases {
            Some(biases) => {
                let bias = n.take_one(biases, 0, expert as i32)?;
                n.add(y, bias)
            }
            None => Ok(y),
        }
    }
}

/// A mixture of experts.
pub(super) fn mixture(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let mut layers = Vec::with_capacity(3);
    for i in [2, 4, 6] {
        let Some(all) = n.optional(i)? else { break };
        let experts = n.size(all, 0)?.min(MAX_EXPERTS + 1) as i32;
        let weights = (0..experts).map(|e| n.take_one(all, 0, e)).collect::<Result<_>>()?;
        layers.push(Layer { weights, biases: n.optional(i + 1)? });
    }
    let normalized = n.flag("normalize_routing_weights", false)?;
    mixed(n, &layers, normalized)
}

/// A mixture of experts with quantized weights.
pub(super) fn quantized_mixture(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let kind = n.text_or("quant_type", "int")?;
    if kind != "int" || n.int_or("weights_prepacked", -1)? == 1 {
        return Err(Error::unsupported(format!(
            "experts with weights for GPUs (`{kind}`, or packed for one)"
        ))
        .with_hint("quantize the model for CPUs: `quant_type` int, without `weights_prepacked`"));
    }
    n.ignore("accuracy_level");
    let block = usize::try_from(n.int_or("block_size", 0)?).unwrap_or(0);
    let bits = n.int_or("expert_weight_bits", 4)?;
    let own = ["fc1_expert_weight_bits", "fc2_expert_weight_bits", "fc3_expert_weight_bits"];
    let mut layers = Vec::with_capacity(3);
    for (i, own) in own.into_iter().enumerate() {
        let bits = usize::try_from(n.int_or(own, bits)?).unwrap_or(0);
        let at = 2 + 3 * i;
        if !n.has(at) {
            break;
        }
        let weights = packed::experts(n, [at, at + 1, 11 + i], bits, block)?;
        layers.push(Layer { weights, biases: n.optional(at + 2)? });
    }
    if n.has(14) {
        return Err(Error::unsupported("experts that are chosen by other numbers than they are mixed by")
            .with_hint("build the model without `router_weights`"));
    }
    // ONNX Runtime takes the softmax of those that are chosen, whatever this says.
    n.ignore("normalize_routing_weights");
    mixed(n, &layers, true)
}

/// More experts than any model has, all of which are computed.
const MAX_EXPERTS: usize = 256;

/// All experts compute, and the best `k` of each row count, as much as the router says. `normalized`: as if there were no others.
fn mixed(n: &mut Node<'_, '_>, layers: &[Layer], normalized: bool) -> Result<Vec<V>> {
    let (v, router) = (n.need(0)?, n.need(1)?);
    let [fc1, fc2, others @ ..] = layers else { return Err(Error::malformed("weights are missing")) };
    let fc3 = others.first();
    let k = n.int_or("k", 1)?.max(1) as usize;
    if n.flag("use_sparse_mixer", false)? || n.flag("swiglu_limit_after_activation", false)? {
        return Err(Error::unsupported("a mixture of experts with a mixer of GPUs")
            .with_hint("build the model without `use_sparse_mixer` and `swiglu_limit_after_activation`"));
    }
    let kind = n.text_or("activation_type", "relu")?.to_owned();
    let form = n.int_or("swiglu_fusion", 0)?;
    let (alpha, beta) = (n.float_or("activation_alpha", 1.0)?, n.float_or("activation_beta", 0.0)?);
    let limit = n.float("swiglu_limit")?;
    let experts = fc1.weights.len();
    if k > experts || experts > MAX_EXPERTS || layers.iter().any(|l| l.weights.len() != experts) {
        return Err(Error::malformed(format!("{k} of {experts} experts")));
    }
    let rank = n.rank(v.id)?;
    let columns = n.size(v.id, rank - 1)?;
    let rows = n.reshape_to(v.id, &[Size::Of(v.id, 0..rank - 1), Size::Fixed(columns)])?;
    // Softmax over all; those below the k-th are zero. Ties go to the lower number.
    let scores = n.float_of(router.id)?;
    let probabilities = op!(n, Softmax, x = scores, axis = -1)?;
    let order = op!(n, Argsort, x = probabilities, axis = 1, ascending = false)?;
    let places = op!(n, Argsort, x = order, axis = 1, ascending = true)?;
    let chosen = n.less(places, k as f64)?;
    let mut weights = n.select(chosen, probabilities, 0.0)?;
    if normalized {
        let sum = n.sum(weights, &[1], true)?;
        weights = n.div(weights, sum)?;
    }
    let dtype = n.dtype(v.id)?;
    let weights = n.cast(weights, dtype)?;
    let mut total: Option<ValueId> = None;
    for e in 0..experts {
        let inner = fc1.of(n, rows, e)?;
        let hidden = if kind == "swiglu" {
            let half = (n.size(inner, 1)? / 2) as i32;
            let (gate, up) = match (form, fc3) {
                (1, None) => (n.cut_by(inner, 1, 0, None, 2)?, n.cut_by(inner, 1, 1, None, 2)?),
                (2, None) => (n.cut(inner, 1, 0, Some(half))?, n.cut(inner, 1, half, None)?),
                (0, Some(fc3)) => (inner, fc3.of(n, rows, e)?),
                _ => return Err(Error::malformed(format!("the form {form} of SwiGLU"))),
            };
            let (gate, up) = match limit {
                Some(limit) => {
                    let limit = f64::from(limit);
                    let (gate, up) = (n.min(gate, limit)?, n.min(up, limit)?);
                    (gate, n.max(up, -limit)?)
                }
                None => (gate, up),
            };
            let gate = swish_of(n, gate, alpha)?;
            let up = if beta == 0.0 { up } else { n.add(up, f64::from(beta))? };
            n.mul(gate, up)?
        } else {
            let y = match &kind[..] {
                "relu" => n.un(Relu, inner)?,
                "gelu" => op!(n, Gelu, x = inner, mode = "TANH_APPROXIMATION")?,
                "silu" => n.un(Silu, inner)?,
                "identity" => inner,
                other => {
                    return Err(Error::unsupported(format!("experts with the activation `{other}`"))
                        .with_hint("known are relu, gelu, silu, swiglu and identity"));
                }
            };
            match fc3 {
                Some(fc3) => {
                    let gate = fc3.of(n, rows, e)?;
                    n.mul(y, gate)?
                }
                None => y,
            }
        };
        let y = fc2.of(n, hidden, e)?;
        let weight = n.cut(weights, 1, e as i32, Some(e as i32 + 1))?;
        let y = n.mul(y, weight)?;
        total = Some(match total {
            Some(total) => n.add(total, y)?,
            None => y,
        });
    }
    let total = total.ok_or_else(|| Error::malformed("no experts"))?;
    let sizes = n.sizes_of(v.id)?;
    let y = n.reshape_to(total, &sizes)?;
    cast::finish(n, y, v.elem)
}
