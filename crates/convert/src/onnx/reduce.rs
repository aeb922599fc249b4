//! Reductions, running sums and products.

use milwright_mil::OpKind::{self, *};
use milwright_mil::{DType, ValueId};

use super::cast;
use super::compose::{V, one};
use super::elem::Elem;
use super::node::Node;
use super::permute::{RunAxes, axis_count};
use crate::Error;
use crate::lower::{Lowering, Result, Size, op};

/// What is reduced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reduce {
    Sum,
    Mean,
    Prod,
    Max,
    Min,
    L1,
    L2,
    LogSum,
    LogSumExp,
    SumSquare,
}

/// Axes are an attribute, or an input from version 18 on (13 for sums). No axes mean all, or with
/// `noop_with_empty_axes` none.
pub(super) fn reduce(n: &mut Node<'_, '_>, what: Reduce) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let keep = n.flag("keepdims", true)?;
    let rank = n.rank(v.id)?;
    let bool = v.elem == Elem::Bool;
    let input = if bool { n.cast(v.id, DType::Int32)? } else { v.id };
    let known = match n.ints("axes")? {
        Some(axes) => Some(axes.to_vec()),
        None if !n.has(1) => Some(Vec::new()),
        None => match n.known_ints(1) {
            Some(axes) => Some(axes),
            None => {
                let axes = n.value(1)?;
                (axis_count(n, axes)? == 0).then(Vec::new)
            }
        },
    };
    let y = match known {
        Some(axes) => {
            let none = axes.is_empty() && n.flag("noop_with_empty_axes", false)?;
            let mut axes = axes.iter().map(|&a| n.axis(v.id, a)).collect::<Result<Vec<_>>>()?;
            if axes.is_empty() && !none {
                axes = (0..rank).collect();
            }
            axes.sort_unstable();
            axes.dedup();
            if none { each(n, input, what)? } else { over(n, input, &axes, keep, what)? }
        }
        None => {
            let axes = n.need(1)?.id;
            let count = axis_count(n, axes)?;
            let run = RunAxes::new(n, input, axes)?;
            if n.ty(input)?.elements() == Some(0) {
                // Core ML's reshape cannot make a size of 0: fill the result with what nothing reduces to.
                let shape = run.reduced_shape(n, count, keep)?;
                let dtype = n.dtype(input)?;
                let y = n.fill(shape, of_nothing(what, dtype), dtype)?;
                let y = as_elem(n, y, v.elem)?;
                return one(y, v.elem);
            }
            let rows = run.rows(n, input)?;
            let y = over(n, rows, &[1], false, what)?;
            let shape = run.reduced_shape(n, count, keep)?;
            n.reshape_by(y, shape)?
        }
    };
    let y = as_elem(n, y, v.elem)?;
    cast::finish(n, y, v.elem)
}

/// The result in the carrier of its type. The largest of no bools is false, the smallest true.
fn as_elem(n: &mut Lowering, y: ValueId, elem: Elem) -> Result<ValueId> {
    if elem == Elem::Bool {
        return n.greater(y, 0.0);
    }
    n.cast(y, elem.carried()?)
}

/// The reduction of no elements.
fn of_nothing(what: Reduce, dtype: DType) -> f64 {
    let (low, high) = match dtype.is_float() {
        true => (f64::NEG_INFINITY, f64::INFINITY),
        false => (f64::from(i32::MIN), f64::from(i32::MAX)),
    };
    match what {
        Reduce::Sum | Reduce::L1 | Reduce::L2 | Reduce::SumSquare => 0.0,
        Reduce::Prod => 1.0,
        Reduce::Mean => f64::NAN,
        Reduce::Max | Reduce::LogSum | Reduce::LogSumExp => low,
        Reduce::Min => high,
    }
}

/// The reduction of each single element.
fn each(n: &mut Lowering, x: ValueId, what: Reduce) -> Result<ValueId> {
    use Reduce::*;
    Ok(match what {
        Sum | Mean | Prod | Max | Min | LogSumExp => x,
        L1 | L2 => n.un(Abs, x)?,
        LogSum => {
            let real = n.float_of(x)?;
            n.log(real)?
        }
        SumSquare => n.mul(x, x)?,
    })
}

fn over(n: &mut Lowering, x: ValueId, axes: &[usize], keep: bool, what: Reduce) -> Result<ValueId> {
    // A scalar has no dimensions to reduce.
    if axes.is_empty() {
        return each(n, x, what);
    }
    match what {
        Reduce::Sum => n.sum(x, axes, keep),
        Reduce::Mean => {
            if n.dtype(x)?.is_float() {
                return n.mean(x, axes, keep);
            }
            n.reduce(ReduceMean, x, axes, keep)
        }
        Reduce::Prod => n.reduce(ReduceProd, x, axes, keep),
        Reduce::Max => n.reduce(ReduceMax, x, axes, keep),
        Reduce::Min => n.reduce(ReduceMin, x, axes, keep),
        Reduce::L1 => {
            let a = n.un(Abs, x)?;
            n.sum(a, axes, keep)
        }
        Reduce::L2 => {
            let real = if n.dtype(x)?.is_float() { x } else { n.float_of(x)? };
            let square = n.mul(real, real)?;
            let sum = n.sum(square, axes, keep)?;
            n.un(Sqrt, sum)
        }
        Reduce::LogSum => {
            let real = if n.dtype(x)?.is_float() { x } else { n.float_of(x)? };
            let sum = n.sum(real, axes, keep)?;
            n.log(sum)
        }
        Reduce::SumSquare => {
            let square = n.mul(x, x)?;
            n.sum(square, axes, keep)
        }
        Reduce::LogSumExp => log_sum_exp(n, x, axes, keep),
    }
}

/// log Σ eˣ, with the largest element taken out; -∞ of nothing, and of nothing but -∞.
fn log_sum_exp(n: &mut Lowering, x: ValueId, axes: &[usize], keep: bool) -> Result<ValueId> {
    let x = if n.dtype(x)?.is_float() { x } else { n.float_of(x)? };
    let top = n.reduce(ReduceMax, x, axes, true)?;
    let a = n.un(Abs, top)?;
    let finite = n.less(a, f64::INFINITY)?;
    let top = n.select(finite, top, 0.0)?;
    let shifted = n.sub(x, top)?;
    let powers = n.un(Exp, shifted)?;
    let sum = n.sum(powers, axes, true)?;
    let log = n.log(sum)?;
    let y = n.add(log, top)?;
    if keep {
        return Ok(y);
    }
    let axes: Vec<i32> = axes.iter().map(|&a| a as i32).collect();
    n.squeeze(y, &axes)
}

/// The index of the first largest (or smallest) element, or of the last one.
pub(super) fn arg(n: &mut Node<'_, '_>, kind: OpKind) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let axis = n.axis_or("axis", 0, v.id)?;
    let keep = n.flag("keepdims", true)?;
    let last = n.flag("select_last_index", false)?;
    let input = if last { n.reverse(v.id, axis)? } else { v.id };
    let inputs = |n: &mut Lowering| {
        use milwright_mil::{Input, Value, param};
        let inputs = vec![
            Input::value(param!(ReduceArgmax.x), input),
            Input::constant(param!(ReduceArgmax.axis), Value::int(axis as i32)),
            Input::constant(param!(ReduceArgmax.keep_dims), Value::bool(keep)),
        ];
        n.op(kind, inputs)
    };
    let y = inputs(n)?;
    if !last {
        return one(y, Elem::Int64);
    }
    let top = match n.dim(v.id, axis)?.fixed() {
        Some(size) => n.sub(size as f64 - 1.0, y)?,
        None => {
            let size = n.size_value(&Size::Of(v.id, axis..axis + 1))?;
            let top = n.sub(size, 1.0)?;
            n.sub(top, y)?
        }
    };
    one(top, Elem::Int64)
}

/// Running sums or products along an axis, which may be computed.
pub(super) fn cumulative(n: &mut Node<'_, '_>, product: bool) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let exclusive = n.flag("exclusive", false)?;
    let reverse = n.flag("reverse", false)?;
    let run = |n: &mut Lowering, x: ValueId, axis: usize| {
        if product {
            products(n, x, axis, exclusive, reverse)
        } else {
            op!(n, Cumsum, x = x, axis = axis as i32, exclusive = exclusive, reverse = reverse)
        }
    };
    let y = match n.known_scalar(1) {
        Some(axis) => {
            let axis = n.axis(v.id, axis as i64)?;
            run(n, v.id, axis)?
        }
        None if n.rank(v.id)? == 1 => run(n, v.id, 0)?,
        None => {
            let axis = n.value(1)?;
            let order = RunAxes::new(n, v.id, axis)?;
            let rows = order.rows(n, v.id)?;
            let y = run(n, rows, 1)?;
            order.restore(n, y)?
        }
    };
    cast::finish(n, y, v.elem)
}

/// Running products by doubling: after step k, each element is the product of the last 2ᵏ ones.
fn products(n: &mut Lowering, x: ValueId, axis: usize, exclusive: bool, reverse: bool) -> Result<ValueId> {
    let size = match n.dim(x, axis)?.fixed() {
        Some(size) => size,
        // Of a size that only a run knows, 2¹⁶ elements at most would be right.
        None => {
            return loop_products(n, x, axis, exclusive, reverse);
        }
    };
    let mut y = if reverse { n.reverse(x, axis)? } else { x };
    if exclusive {
        y = shifted(n, y, axis, 1)?;
    }
    let mut step = 1;
    while step < size {
        let earlier = shifted(n, y, axis, step)?;
        y = n.mul(y, earlier)?;
        step *= 2;
    }
    if reverse { n.reverse(y, axis) } else { Ok(y) }
}

/// Moves elements to higher indices; ones come in.
fn shifted(n: &mut Lowering, x: ValueId, axis: usize, by: usize) -> Result<ValueId> {
    let dtype = n.dtype(x)?;
    let mut sizes = n.sizes_of(x)?;
    sizes[axis] = Size::Fixed(by);
    let ones = n.full(&sizes, 1.0, dtype)?;
    let long = n.concat(vec![ones, x], axis)?;
    n.cut(long, axis, 0, Some(-(by as i32)))
}

/// The same for a size that only a run knows: the product over a mask, element by element of a square.
fn loop_products(
    n: &mut Lowering,
    x: ValueId,
    axis: usize,
    exclusive: bool,
    reverse: bool,
) -> Result<ValueId> {
    let rank = n.rank(x)?;
    if rank > 4 {
        return Err(Error::unsupported("a running product of rank 5 along a size that only a run knows")
            .with_hint("give every dynamic size of the model a number"));
    }
    // A new dimension after the axis holds the factors of each result.
    let dtype = n.dtype(x)?;
    let size = Size::Of(x, axis..axis + 1);
    let places = n.range_to(&size)?;
    let column = n.expand_dims(places, &[1])?;
    let mask = match (reverse, exclusive) {
        (false, false) => n.less_equal(places, column)?,
        (false, true) => n.less(places, column)?,
        (true, false) => n.greater_equal(places, column)?,
        (true, true) => n.greater(places, column)?,
    };
    let axes: Vec<i32> = (2..(rank - axis + 1) as i32).collect();
    let mask = n.expand_dims(mask, &axes)?;
    let wide = n.expand_dims(x, &[axis as i32])?;
    let factors = n.select_as(mask, wide, 1.0, dtype)?;
    n.reduce(ReduceProd, factors, &[axis + 1], false)
}
