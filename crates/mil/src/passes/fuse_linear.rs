//! Fuses a matrix multiplication by a constant and the addition of a constant into a `linear`.
//!
//! ```text
//! m = matmul(x = x, y = w)                w: [K, N]
//! y = add(x = m, y = b)                   y = linear(x = x, weight = transposed w, bias = b)
//! ```
//!
//! Also adds a constant to the bias of a `linear`. `x` may have at most 3 dimensions, as `linear` requires.

use super::edit::{Editor, float_tensor};
use crate::infer::Facts;
use crate::ops::OpDef;
use crate::ops::defs::Matmul;
use crate::{Evaluate, Input, OpId, OpKind, Tensor, TensorType, Value, ValueId, param};

/// The largest rank that `linear` takes.
const MAX_RANK: usize = 3;

pub(super) fn run(e: &mut Editor<'_>, _: Option<&dyn Evaluate>) {
    let facts = e.facts();
    for op in e.f.walk() {
        if e.is(op, OpKind::Add) {
            let operands: Vec<_> = e.operands(op).collect();
            operands.into_iter().any(|(x, other)| fuse(e, &facts, op, x, other).is_some());
        }
    }
}

fn fuse(e: &mut Editor<'_>, facts: &Facts, op: OpId, product: ValueId, other: &str) -> Option<()> {
    let source = e.producer(product, OpKind::Matmul).or_else(|| e.producer(product, OpKind::Linear))?;
    e.tensor(op, other)?;
    if !e.used_once(product) {
        e.skip(op, "something else uses the product");
        return None;
    }
    let rank = facts.ty(e.f, product).as_tensor().map(TensorType::rank)?;
    let (x, weight) = if e.is(source, OpKind::Linear) {
        (e.value(source, "x")?, Weight::Rows(e.value(source, param!(Linear.weight))?))
    } else {
        (e.value(source, "x")?, matmul_weight(e, facts, source)?)
    };
    let weight_type = facts.ty(e.f, weight.value()).as_tensor()?;
    let (columns, dtype) = (weight_type.shape.get(weight.columns_axis())?.fixed()?, weight_type.dtype);
    let x_rank = facts.ty(e.f, x).as_tensor().map(TensorType::rank)?;
    if x_rank > MAX_RANK || x_rank != rank {
        e.skip(op, "linear takes at most 3 dimensions");
        return None;
    }
    let weight_bytes =
        e.f.const_value(weight.value()).and_then(Value::as_tensor).map_or(0, |t| t.bytes().len());
    let bytes = columns.saturating_mul(4).saturating_add(weight_bytes);
    if !e.afford(op, bytes) {
        return None;
    }
    let bias = bias(e, op, other, source, rank, columns)?;
    let Some(bias) = float_tensor(dtype, &[columns], &bias) else {
        e.skip(op, "the sum of the biases does not fit");
        return None;
    };
    let name = e.f[e.f[op].outputs[0]].name.clone();
    let weight = match weight {
        Weight::Rows(v) => v,
        Weight::Columns(v) => {
            let transposed = transposed(e.f.const_value(v)?.as_tensor()?)?;
            e.successor(op, v, &format!("{name}_weight"), transposed)
        }
    };
    let base = format!("{name}_bias");
    // Takes over the name of the existing bias, or of the constant that becomes the bias.
    let old = e.value(source, param!(Linear.bias)).or_else(|| e.value(op, other));
    let bias = match old {
        Some(old) => e.successor(op, old, &base, bias),
        None => e.new_const(op, &base, bias),
    };
    let inputs = vec![
        Input::value(param!(Linear.x), x),
        Input::value(param!(Linear.weight), weight),
        Input::value(param!(Linear.bias), bias),
    ];
    e.rewrite(op, OpKind::Linear, inputs);
    Some(())
}

/// The source of the weight of a `linear`, which is `[N, K]`.
enum Weight {
    /// A value of the shape `[N, K]`.
    Rows(ValueId),
    /// A constant of the shape `[K, N]`, to be transposed.
    Columns(ValueId),
}

impl Weight {
    fn value(&self) -> ValueId {
        match *self {
            Weight::Rows(v) | Weight::Columns(v) => v,
        }
    }

    /// The dimension whose size is N.
    fn columns_axis(&self) -> usize {
        usize::from(matches!(self, Weight::Columns(_)))
    }
}

fn matmul_weight(e: &Editor<'_>, facts: &Facts, op: OpId) -> Option<Weight> {
    let view = facts.view(e.f, op).ok()?;
    let p = Matmul::params(&view).ok()?;
    let y = e.value(op, param!(Matmul.y))?;
    if p.y.rank() != 2 || p.transpose_x {
        return None;
    }
    let constant = e.f.const_value(y).is_some();
    let compressed = e.f.defining_op(y).is_some_and(|op| e.f[op].kind.is_constexpr());
    match p.transpose_y {
        true if constant || compressed => Some(Weight::Rows(y)),
        false if constant => Some(Weight::Columns(y)),
        _ => {
            e.skip(op, "the weight is not a plain constant");
            None
        }
    }
}

fn transposed(t: &Tensor) -> Option<Tensor> {
    let (rows, columns, size) = (t.shape()[0], t.shape()[1], t.dtype().bits() / 8);
    let mut bytes = Vec::with_capacity(t.bytes().len());
    for column in 0..columns {
        for row in 0..rows {
            bytes.extend_from_slice(&t.bytes()[(row * columns + column) * size..][..size]);
        }
    }
    Tensor::from_bytes(t.dtype(), &[columns, rows], bytes.into()).ok()
}

/// Returns the constant to add, one number per column, plus the existing bias.
fn bias(
    e: &Editor<'_>,
    op: OpId,
    other: &str,
    source: OpId,
    rank: usize,
    columns: usize,
) -> Option<Vec<f64>> {
    let t = e.tensor(op, other)?;
    let per_column = t.elements() == 1 || t.shape().last() == Some(&columns) && t.elements() == columns;
    if t.shape().len() > rank || !per_column {
        e.skip(op, "the constant is not one number per column");
        return None;
    }
    let numbers = t.to_f64();
    let mut sum = if numbers.len() == 1 { vec![numbers[0]; columns] } else { numbers };
    if !e.f[source].args(param!(Linear.bias)).is_empty() {
        let before = e.tensor(source, param!(Linear.bias))?.to_f64();
        sum.iter_mut().zip(before).for_each(|(s, b)| *s += b);
    }
    Some(sum)
}
