//! Replaces layer normalizations that were decomposed into simpler ops.
//!
//! ```text
//! m = reduce_mean(x = x, axes = a, keep_dims = true)
//! d = sub(x = x, y = m)
//! v = reduce_mean(x = square(x = d), axes = a, keep_dims = true)
//! n = real_div(x = d, y = sqrt(x = v + epsilon))           or d * rsqrt(v + epsilon)
//! s = mul(x = n, y = gamma)
//! y = add(x = s, y = beta)                  y = layer_norm(x = x, axes = a, gamma, beta, epsilon)
//! ```
//!
//! `gamma` and `beta` may be absent. Each joins on its own, so that `n` alone becomes a `layer_norm`, too.

use super::edit::{Editor, float_dtype, float_tensor};
use crate::infer::Facts;
use crate::ops::OpDef;
use crate::ops::defs::{ReduceMean, Rsqrt};
use crate::{Dim, Evaluate, Input, OpId, OpKind, Tensor, TensorType, Value, ValueId, param};

pub(super) fn run(e: &mut Editor<'_>, _: Option<&dyn Evaluate>) {
    let facts = e.facts();
    for op in e.f.walk() {
        match e.f[op].kind {
            OpKind::Mul => drop(normalized(e, &facts, op).or_else(|| attach(e, &facts, op, "gamma"))),
            OpKind::RealDiv => drop(normalized(e, &facts, op)),
            OpKind::Add => drop(attach(e, &facts, op, "beta")),
            _ => {}
        }
    }
}

/// Turns the op that divides by the standard deviation into a `layer_norm`.
fn normalized(e: &mut Editor<'_>, facts: &Facts, op: OpId) -> Option<()> {
    let kind = OpKind::LayerNorm;
    let (deviation, variance, epsilon) = divided(e, facts, op)?;
    let sub = e.producer(deviation, OpKind::Sub)?;
    let (x, mean) =
        (e.value(sub, param!(Sub.x))?, e.producer(e.value(sub, param!(Sub.y))?, OpKind::ReduceMean)?);
    let square_mean = e.producer(variance, OpKind::ReduceMean)?;
    let axes = reduced_axes(e, facts, mean)?;
    let of_x = e.value(mean, param!(ReduceMean.x)) == Some(x);
    let of_square = is_square(e, e.value(square_mean, param!(ReduceMean.x))?, deviation);
    if !of_x || !of_square || reduced_axes(e, facts, square_mean)? != axes {
        return None;
    }
    let output = e.f[op].outputs[0];
    let dtype = float_dtype(facts.ty(e.f, x)).filter(|_| e.f[x].ty == e.f[output].ty)?;
    let epsilon = float_tensor(dtype, &[], &[epsilon])?;
    let axes: Vec<i32> = axes.iter().map(|&a| a as i32).collect();
    let name = e.f[output].name.clone();
    let axes = e.new_const(op, &format!("{name}_axes"), Value::ints(&axes));
    let epsilon = e.new_const(op, &format!("{name}_epsilon"), epsilon);
    let inputs = vec![
        Input::value(param!(LayerNorm.x), x),
        Input::value(param!(LayerNorm.axes), axes),
        Input::value(param!(LayerNorm.epsilon), epsilon),
    ];
    e.rewrite(op, kind, inputs);
    Some(())
}

/// Matches `d / sqrt(v + epsilon)` and `d * rsqrt(v + epsilon)`; returns d, v and epsilon.
fn divided(e: &Editor<'_>, facts: &Facts, op: OpId) -> Option<(ValueId, ValueId, f64)> {
    if e.is(op, OpKind::RealDiv) {
        let root = e.value(op, "y")?;
        let sum = match e.producer(root, OpKind::Sqrt) {
            Some(sqrt) => e.value(sqrt, param!(Sqrt.x))?,
            None => e
                .producer(root, OpKind::Pow)
                .filter(|&p| e.number(p, param!(Pow.y)) == Some(0.5))
                .and_then(|p| e.value(p, param!(Pow.x)))?,
        };
        let (variance, epsilon) = plus_constant(e, sum)?;
        return Some((e.value(op, "x")?, variance, epsilon));
    }
    e.operands(op).find_map(|(root, other)| {
        let deviation = e.value(op, other)?;
        if let Some(rsqrt) = e.producer(root, OpKind::Rsqrt) {
            let own = Rsqrt::params(&facts.view(e.f, rsqrt).ok()?).ok()?.epsilon.value;
            let (variance, epsilon) = plus_constant(e, e.value(rsqrt, param!(Rsqrt.x))?)?;
            return Some((deviation, variance, epsilon + f64::from(own)));
        }
        let pow = e.producer(root, OpKind::Pow).filter(|&p| e.number(p, param!(Pow.y)) == Some(-0.5))?;
        let (variance, epsilon) = plus_constant(e, e.value(pow, param!(Pow.x))?)?;
        Some((deviation, variance, epsilon))
    })
}

/// Matches the sum of a value and a small positive constant.
fn plus_constant(e: &Editor<'_>, sum: ValueId) -> Option<(ValueId, f64)> {
    let add = e.producer(sum, OpKind::Add)?;
    let (value, epsilon) = e.operands(add).find_map(|(v, other)| Some((v, e.number(add, other)?)))?;
    (0.0..=0.1).contains(&epsilon).then_some((value, epsilon))
}

fn is_square(e: &Editor<'_>, square: ValueId, of: ValueId) -> bool {
    let op = |kind| e.producer(square, kind);
    if let Some(mul) = op(OpKind::Mul) {
        return e.value(mul, param!(Mul.x)) == Some(of) && e.value(mul, param!(Mul.y)) == Some(of);
    }
    if let Some(pow) = op(OpKind::Pow) {
        return e.value(pow, param!(Pow.x)) == Some(of) && e.number(pow, param!(Pow.y)) == Some(2.0);
    }
    op(OpKind::Square).is_some_and(|s| e.value(s, param!(Square.x)) == Some(of))
}

/// Returns the axes, sorted, of a mean that keeps its dimensions.
fn reduced_axes(e: &Editor<'_>, facts: &Facts, mean: OpId) -> Option<Vec<usize>> {
    let view = facts.view(e.f, mean).ok()?;
    let p = ReduceMean::params(&view).ok()?;
    let mut axes = p.axes?.resolve(p.x.rank()).ok()?;
    axes.sort_unstable();
    p.keep_dims.then_some(axes).filter(|a| !a.is_empty())
}

/// Merges a multiplication (`gamma`) or an addition (`beta`) into the `layer_norm` before it.
fn attach(e: &mut Editor<'_>, facts: &Facts, op: OpId, param: &str) -> Option<()> {
    let operands: Vec<_> = e.operands(op).collect();
    operands.into_iter().find_map(|(value, other)| {
        let norm = e.producer(value, OpKind::LayerNorm)?;
        let shape = fixed_axes(e, facts, norm)?;
        if !e.afford(op, e.tensor(op, other)?.bytes().len()) {
            return None;
        }
        let tensor = e.tensor(op, other).and_then(|t| along(t, &shape))?;
        let taken = |name| !e.f[norm].args(name).is_empty();
        if taken(param) || taken("beta") || !e.used_once(value) || e.f[value].ty != e.f[e.f[op].outputs[0]].ty
        {
            e.skip(op, "the layer_norm before it is shared, or has this parameter already");
            return None;
        }
        let name = format!("{}_{param}", e.f[e.f[op].outputs[0]].name);
        let tensor = e.new_const(op, &name, tensor);
        let mut inputs = e.f[norm].inputs.clone();
        inputs.push(Input::value(param, tensor));
        e.rewrite(op, e.f[norm].kind, inputs);
        Some(())
    })
}

/// Returns the shape of a norm's input, with `Some` for the dimensions that are normalized.
fn fixed_axes(e: &Editor<'_>, facts: &Facts, norm: OpId) -> Option<Vec<Option<usize>>> {
    let x: &TensorType = facts.ty(e.f, e.value(norm, param!(LayerNorm.x))?).as_tensor()?;
    let axes = e.tensor(norm, param!(LayerNorm.axes))?.to_i64()?;
    let mut shape = vec![None; x.rank()];
    for axis in axes {
        let axis = if axis < 0 { axis + x.rank() as i64 } else { axis };
        let axis = usize::try_from(axis).ok().filter(|&a| a < x.rank())?;
        shape[axis] = Some(x.shape[axis]).and_then(Dim::fixed);
        shape[axis]?;
    }
    Some(shape)
}

/// Returns a constant as `gamma` or `beta`, if it has exactly the normalized dimensions, in full.
fn along(t: &Tensor, shape: &[Option<usize>]) -> Option<Tensor> {
    let missing = shape.len().checked_sub(t.shape().len())?;
    let all_there = shape[..missing].iter().all(|d| d.is_none_or(|n| n == 1));
    let fits = t.shape().iter().zip(&shape[missing..]).all(|(&n, d)| n == d.unwrap_or(1));
    let sizes: Vec<usize> = shape.iter().flatten().copied().collect();
    if all_there && fits { t.reshaped(&sizes).ok() } else { None }
}
