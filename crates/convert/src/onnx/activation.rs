//! Activations and softmax.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, Dim, Input, OpKind, Value, ValueId, param};

use super::compose::{V, one};
use super::elem::Elem;
use super::node::Node;
use super::{cast, elementwise};
use crate::Error;
use crate::lower::{Lowering, Result, Size, op};

pub(super) fn relu(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    if n.dtype(v.id)?.is_float() {
        return elementwise::function(n, Relu);
    }
    let y = n.max(v.id, 0.0)?;
    one(y, v.elem)
}

/// An activation with the parameters `alpha` and maybe `beta`.
pub(super) fn with(n: &mut Node<'_, '_>, kind: OpKind, alpha: f32, beta: Option<f32>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let alpha = n.float_or("alpha", alpha)?;
    let beta = match beta {
        Some(beta) => Some(n.float_or("beta", beta)?),
        None => None,
    };
    let y = parametric(n, v.id, kind, alpha.into(), beta.map(Into::into))?;
    cast::finish(n, y, v.elem)
}

pub(super) fn parametric(
    n: &mut Lowering,
    x: ValueId,
    kind: OpKind,
    alpha: f64,
    beta: Option<f64>,
) -> Result<ValueId> {
    let dtype = n.dtype(x)?;
    let mut inputs = vec![
        Input::value(param!(Elu.x), x),
        Input::constant(param!(Elu.alpha), Value::Tensor(n.number(dtype, alpha)?)),
    ];
    if let Some(beta) = beta {
        inputs.push(Input::constant(param!(SigmoidHard.beta), Value::Tensor(n.number(dtype, beta)?)));
    }
    n.op(kind, inputs)
}

/// gamma · elu(x).
pub(super) fn selu(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    // The defaults before version 6 were given with fewer digits.
    let (a, g) = if n.opset < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let (alpha, gamma) = (n.float_or("alpha", a)?, n.float_or("gamma", g)?);
    let y = parametric(n, v.id, Elu, alpha.into(), None)?;
    let y = n.mul(y, f64::from(gamma))?;
    cast::finish(n, y, v.elem)
}

/// max(0, x) + min(0, α · (exp(x / α) - 1)) = α · elu(x / α) for a positive α.
pub(super) fn celu(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let alpha = f64::from(n.float_or("alpha", 1.0)?);
    let scaled = n.div(v.id, alpha)?;
    let positive = n.max(v.id, 0.0)?;
    let low = n.min(scaled, 0.0)?;
    let low = parametric(n, low, Elu, 1.0, None)?;
    let low = n.mul(low, alpha)?;
    let low = n.min(low, 0.0)?;
    let y = n.add(positive, low)?;
    cast::finish(n, y, v.elem)
}

/// The slope of the negative half broadcasts to x. Before version 7 it has an element per channel.
pub(super) fn prelu(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (v, mut slope) = (n.need(0)?, n.need(1)?.id);
    let (rank, own) = (n.rank(v.id)?, n.rank(slope)?);
    if n.opset < 7 && own == 1 && rank > 2 {
        let axes: Vec<i32> = (1..=rank as i32 - 2).collect();
        slope = n.expand_dims(slope, &axes)?;
    }
    // One slope per channel is what MIL has.
    if (3..=5).contains(&rank)
        && let (Some(alpha), Some(channels)) = (n.builder.known(slope).cloned(), n.dim(v.id, 1)?.fixed())
        && alpha.elements() == channels
        && alpha.shape().len() >= rank - 1
        && alpha.shape().len() <= rank
        && alpha.shape()[alpha.shape().len() - (rank - 1)] == channels
        && n.dtype(v.id)?.is_float()
    {
        let alpha = alpha.reshaped(&[channels]).map_err(|e| Error::malformed(e.to_string()))?;
        let alpha = n.constant(alpha);
        let y = op!(n, Prelu, x = v.id, alpha = alpha)?;
        return cast::finish(n, y, v.elem);
    }
    let negative = n.less(v.id, 0.0)?;
    let scaled = n.mul(v.id, slope)?;
    let y = n.select(negative, scaled, v.id)?;
    cast::finish(n, y, v.elem)
}

/// x where it is above α, else 0. MIL's op keeps x = α.
pub(super) fn thresholded_relu(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let alpha = n.float_or("alpha", 1.0)?;
    let above = n.greater(v.id, f64::from(alpha))?;
    let y = n.select(above, v.id, 0.0)?;
    one(y, v.elem)
}

pub(super) fn hard_swish(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let gate = parametric(n, v.id, SigmoidHard, 1.0 / 6.0, Some(0.5))?;
    let y = n.mul(v.id, gate)?;
    cast::finish(n, y, v.elem)
}

pub(super) fn gelu(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let mode = match n.text_or("approximate", "none")? {
        "none" => "EXACT",
        "tanh" => "TANH_APPROXIMATION",
        other => return Err(Error::malformed(format!("the approximation `{other}`"))),
    };
    let y = op!(n, Gelu, x = v.id, mode = mode)?;
    cast::finish(n, y, v.elem)
}

/// x · tanh(softplus(x)).
pub(super) fn mish(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let soft = n.un(Softplus, v.id)?;
    let gate = n.un(Tanh, soft)?;
    let y = n.mul(v.id, gate)?;
    cast::finish(n, y, v.elem)
}

/// x · sigmoid(α · x).
pub(super) fn swish(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let alpha = n.float_or("alpha", 1.0)?;
    let y = swish_of(n, v.id, alpha)?;
    cast::finish(n, y, v.elem)
}

pub(super) fn swish_of(n: &mut Lowering, x: ValueId, alpha: f32) -> Result<ValueId> {
    if alpha == 1.0 {
        return n.un(Silu, x);
    }
    let scaled = n.mul(x, f64::from(alpha))?;
    let gate = n.un(Sigmoid, scaled)?;
    n.mul(x, gate)
}

/// swish(gate) · x, the gate being the first input.
pub(super) fn swiglu(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (a, b) = (n.need(0)?, n.need(1)?);
    let alpha = n.float_or("alpha", 1.0)?;
    let gate = swish_of(n, a.id, alpha)?;
    let y = n.mul(gate, b.id)?;
    cast::finish(n, y, a.elem)
}

/// x + bias below -λ, x - bias above λ, 0 between.
pub(super) fn shrink(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let lambda = f64::from(n.float_or("lambd", 0.5)?);
    let bias = f64::from(n.float_or("bias", 0.0)?);
    let real = if n.dtype(v.id)?.is_float() { v.id } else { n.float_of(v.id)? };
    let (low, high) = (n.less(real, -lambda)?, n.greater(real, lambda)?);
    let (up, down) = (n.add(real, bias)?, n.sub(real, bias)?);
    let y = n.select(high, down, 0.0)?;
    let y = n.select(low, up, y)?;
    let carrier = cast::carrier(v.elem)?;
    let y = n.cast(y, carrier)?;
    cast::finish(n, y, v.elem)
}

/// Which of the softmax family.
#[derive(Clone, Copy)]
pub(super) enum Soft {
    Max,
    LogMax,
    HardMax,
}

/// Softmax and its kin along the attribute `axis`.
pub(super) fn softmax(n: &mut Node<'_, '_>, which: Soft) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let opset = n.opset;
    let axis = n.int_or("axis", if opset >= 13 { -1 } else { 1 })?;
    let y = softmax_of(n, v.id, axis, opset, which)?;
    cast::finish(n, y, v.elem)
}

/// From version 13 on along one axis; before, all dimensions from the axis on are one vector.
pub(super) fn softmax_of(
    n: &mut Lowering,
    x: ValueId,
    axis: i64,
    opset: u32,
    which: Soft,
) -> Result<ValueId> {
    let rank = n.rank(x)?;
    if opset >= 13 {
        let axis = n.axis(x, axis)?;
        return soft(n, x, axis, which);
    }
    let axis = if axis == rank as i64 { rank } else { n.axis(x, axis)? };
    // Sizes of 1 after the axis make no difference.
    let rest = (axis + 1..rank).all(|d| matches!(n.dim(x, d), Ok(Dim::Fixed(1))));
    if axis < rank && rest {
        return soft(n, x, axis, which);
    }
    let flat = n.reshape_to(x, &[Size::Of(x, 0..axis), Size::Of(x, axis..rank)])?;
    let y = soft(n, flat, 1, which)?;
    let sizes = n.sizes_of(x)?;
    n.reshape_to(y, &sizes)
}

fn soft(n: &mut Lowering, x: ValueId, axis: usize, which: Soft) -> Result<ValueId> {
    match which {
        Soft::Max => op!(n, Softmax, x = x, axis = axis as i32),
        Soft::LogMax => log_softmax(n, x, axis),
        Soft::HardMax => {
            let dtype = n.dtype(x)?;
            let best = op!(n, ReduceArgmax, x = x, axis = axis as i32, keep_dims = true)?;
            let rank = n.rank(x)?;
            let places = n.range_to(&Size::Of(x, axis..axis + 1))?;
            let axes: Vec<i32> = (1..(rank - axis) as i32).collect();
            let places = n.expand_dims(places, &axes)?;
            let hit = n.equal(best, places)?;
            n.cast(hit, dtype)
        }
    }
}

/// x - max - log Σ exp(x - max).
pub(super) fn log_softmax(n: &mut Lowering, x: ValueId, axis: usize) -> Result<ValueId> {
    let top = n.reduce(ReduceMax, x, &[axis], true)?;
    let shifted = n.sub(x, top)?;
    let powers = n.un(Exp, shifted)?;
    let sum = n.sum(powers, &[axis], true)?;
    let log = n.log(sum)?;
    n.sub(shifted, log)
}

/// In inference the identity, and a mask of true. In training, elements drop out at random.
pub(super) fn dropout(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    // An input that only a run knows might be anything.
    let ratio = match n.has(1) {
        true => n.known_scalar(1).unwrap_or(0.5),
        false => f64::from(n.float_or("ratio", 0.5)?),
    };
    let training = if n.has(2) {
        ratio != 0.0 && n.known_scalar(2) != Some(0.0)
    } else {
        n.opset < 7 && !n.flag("is_test", false)?
    };
    if training {
        return Err(Error::unsupported("dropout in training mode, whose result is random").with_hint(
            "export the model for inference (`model.eval()`), or set the input `training_mode` to false",
        ));
    }
    let mut results = vec![v];
    if n.wants(1) {
        let sizes = n.sizes_of(v.id)?;
        // Before version 10 the mask has the type of the data.
        let (dtype, elem) = if n.opset < 10 { (n.dtype(v.id)?, v.elem) } else { (DType::Bool, Elem::Bool) };
        let mask = n.full(&sizes, 1.0, dtype)?;
        results.push(V { id: mask, elem });
    }
    Ok(results)
}
