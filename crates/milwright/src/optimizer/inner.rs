//! What lies inside ops that are computed in several steps: the largest number that these steps meet when each of them
//! is rounded to fp16, as in a unit that does not take precautions.
//!
//! Apple does not say how its units compute these ops. Reports of wrong results (softplus from 10.4 on, logsumexp from
//! 7.6 on, norms of large values) fit the formulas here.

use milwright_mil::{Function, Op, OpKind, Tensor, Value};

/// A step inside an op: what it computes, and its largest magnitude.
pub(super) struct Inner {
    pub formula: &'static str,
    pub largest: f64,
}

/// The largest step inside an op for its data `x`; `None` for ops that are one step, or that are safe in any size.
pub(super) fn inner(function: &Function, op: &Op, x: &Tensor) -> Option<Inner> {
    let values = || x.to_f64();
    let sums = |axes: &[usize], f: &dyn Fn(f64) -> f64| largest(&sums(x, axes, f));
    let rank = x.shape().len();
    let last = |n: usize| (rank.saturating_sub(n)..rank).collect::<Vec<_>>();
    let (formula, largest) = match op.kind {
        OpKind::Softplus => ("exp(x)", values().into_iter().fold(0.0, |m: f64, x| m.max(x.exp()))),
        OpKind::Gelu if is_tanh(function, op) => ("x³", largest(&values()).powi(3)),
        OpKind::ReduceLogSumExp => ("the sum of exp(x)", sums(&axes(function, op, rank), &f64::exp)),
        OpKind::ReduceL2Norm | OpKind::ReduceSumSquare => {
            ("the sum of x²", sums(&axes(function, op, rank), &|x| x * x))
        }
        OpKind::L2Norm => ("the sum of x²", sums(&last(3), &|x| x * x)),
        OpKind::ReduceMean => ("the sum of x", sums(&axes(function, op, rank), &|x| x)),
        OpKind::LayerNorm => ("the sum of (x - mean)²", variation(x, &axes(function, op, rank))),
        OpKind::InstanceNorm => ("the sum of (x - mean)²", variation(x, &last(rank.saturating_sub(2)))),
        _ => return None,
    };
    Some(Inner { formula, largest })
}

/// The smallest positive number that enters the logarithm of a softmax; `None` for other ops.
pub(super) fn least_probability(function: &Function, op: &Op, x: &Tensor) -> Option<f64> {
    let maker = op.value("x").and_then(|v| function.defining_op(v)).map(|op| function[op].kind);
    if op.kind != OpKind::Log || maker != Some(OpKind::Softmax) {
        return None;
    }
    x.to_f64().into_iter().filter(|&p| p > 0.0).reduce(f64::min)
}

/// The constant of a parameter.
fn constant<'a>(function: &'a Function, op: &'a Op, name: &str) -> Option<&'a Tensor> {
    let value = match op.args(name).first()? {
        milwright_mil::Arg::Value(v) => function.const_value(*v)?,
        milwright_mil::Arg::Const(value) => value,
    };
    match value {
        Value::Tensor(tensor) => Some(tensor),
        _ => None,
    }
}

/// The dimensions that an op reduces: all, if it does not say which.
fn axes(function: &Function, op: &Op, rank: usize) -> Vec<usize> {
    let Some(given) = constant(function, op, "axes").and_then(Tensor::to_i64) else {
        return (0..rank).collect();
    };
    let place = |axis: i64| usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok();
    given.into_iter().filter_map(place).filter(|&axis| axis < rank).collect()
}

fn is_tanh(function: &Function, op: &Op) -> bool {
    constant(function, op, "mode").is_some_and(|mode| mode.strings() == ["TANH_APPROXIMATION"])
}

/// For each element, the number of the sum that it belongs to, and the number of sums.
fn groups(shape: &[usize], axes: &[usize]) -> (Vec<usize>, usize) {
    let mut strides = vec![0; shape.len()];
    let mut count = 1;
    for d in (0..shape.len()).rev().filter(|d| !axes.contains(d)) {
        strides[d] = count;
        count *= shape[d];
    }
    let mut groups = vec![0];
    for (&n, &stride) in shape.iter().zip(&strides) {
        groups = groups.iter().flat_map(|&g| (0..n).map(move |i| g + i * stride)).collect();
    }
    (groups, count)
}

/// The sums of `f` along some dimensions.
fn sums(x: &Tensor, axes: &[usize], f: &dyn Fn(f64) -> f64) -> Vec<f64> {
    let (groups, count) = groups(x.shape(), axes);
    let mut sums = vec![0.0; count];
    groups.into_iter().zip(x.to_f64()).for_each(|(g, x)| sums[g] += f(x));
    sums
}

/// The largest sum of squared distances from the mean.
fn variation(x: &Tensor, axes: &[usize]) -> f64 {
    let n = axes.iter().map(|&d| x.shape()[d]).product::<usize>().max(1) as f64;
    let (plain, squares) = (sums(x, axes, &|x| x), sums(x, axes, &|x| x * x));
    let each = plain.iter().zip(squares).map(|(s, q)| (q - s * s / n).max(0.0));
    each.fold(0.0, f64::max)
}

/// The largest finite magnitude, or infinity if all that is larger is infinite.
fn largest(values: &[f64]) -> f64 {
    values.iter().filter(|x| !x.is_nan()).fold(0.0, |m, x| m.max(x.abs()))
}
