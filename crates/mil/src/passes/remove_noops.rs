//! Removes ops that return their input, and pairs of ops that undo each other.
//!
//! ```text
//! a = identity(x = x)                       y = relu(x = x)
//! b = transpose(x = a, perm = [1, 0])
//! c = transpose(x = b, perm = [1, 0])
//! d = mul(x = c, y = 1.0)
//! y = relu(x = d)
//! ```
//!
//! * `identity`; `cast` to the same element type; `reshape` and its kin to the same shape; `transpose` that permutes
//!   nothing; `pad` by zero; slices of everything; `concat` of one; `split` into one; `tile` by one;
//! * `x + 0`, `x - 0`, `x * 1`, `x / 1`, `x ^ 1` (the sign of a zero may change in `x + 0`);
//! * `transpose` after `transpose`, reshapes after reshapes, and `cast` after a `cast` that lost nothing become one op.

use super::Editor;
use crate::infer::Facts;
use crate::{DType, Evaluate, Input, OpId, OpKind, TensorType, Value, ValueId, param};

pub(super) fn run(e: &mut Editor<'_>, _: Option<&dyn Evaluate>) {
    let facts = e.facts();
    for op in e.f.walk() {
        let [output] = e.f[op].outputs[..] else { continue };
        if let Some(same) = returned(e, &facts, op, output) {
            if !e.replace(output, same) {
                e.skip(op, "it gives an output its name");
            }
        } else {
            join(e, &facts, op, output);
        }
    }
}

/// Returns the input that an op returns unchanged.
fn returned(e: &Editor<'_>, facts: &Facts, op: OpId, output: ValueId) -> Option<ValueId> {
    let x = e.value(op, "x");
    let same_type =
        |x: ValueId| fixed(facts, e, x).is_some() && fixed(facts, e, x) == fixed(facts, e, output);
    let all = |name: &str, n: f64| match e.tensor(op, name) {
        Some(t) => t.dtype().is_int() && t.to_f64().iter().all(|&x| x == n),
        None => e.f[op].args(name).is_empty(),
    };
    match e.f[op].kind {
        OpKind::Identity => x,
        OpKind::Cast => {
            x.filter(|&x| dtype(facts, e, x).is_some() && dtype(facts, e, x) == dtype(facts, e, output))
        }
        OpKind::Reshape | OpKind::ExpandDims | OpKind::Squeeze => x.filter(|&x| same_type(x)),
        OpKind::Transpose => {
            x.filter(|_| permutation(e, op).is_some_and(|p| p.iter().copied().eq(0..p.len())))
        }
        OpKind::Pad => x.filter(|_| e.tensor(op, param!(Pad.pad)).is_some() && all(param!(Pad.pad), 0.0)),
        OpKind::SliceByIndex => x.filter(|&x| same_type(x) && all("stride", 1.0)),
        OpKind::SliceBySize => x.filter(|&x| same_type(x)),
        OpKind::Tile => x.filter(|&x| same_type(x)),
        OpKind::Concat if e.f[op].args(param!(Concat.values)).len() == 1 => {
            e.value(op, param!(Concat.values))
        }
        OpKind::Split => x.filter(|&x| same_type(x)),
        OpKind::Add => neutral(e, facts, op, 0.0, true),
        OpKind::Mul => neutral(e, facts, op, 1.0, true),
        OpKind::Sub => neutral(e, facts, op, 0.0, false),
        OpKind::RealDiv | OpKind::Pow => neutral(e, facts, op, 1.0, false),
        _ => None,
    }
}

/// Returns the operand that a binary op returns unchanged because the other one is a neutral number.
fn neutral(e: &Editor<'_>, facts: &Facts, op: OpId, number: f64, commutes: bool) -> Option<ValueId> {
    let mut operands = e.operands(op).take(if commutes { 2 } else { 1 });
    let (value, _) = operands.find(|&(value, other)| {
        let rank = facts.ty(e.f, value).as_tensor().map_or(0, TensorType::rank);
        let fits = e.tensor(op, other).is_some_and(|t| t.shape().len() <= rank && !t.dtype().is_sub_byte());
        fits && e.number(op, other) == Some(number)
    })?;
    // In `x - 0` and `x / 1` the neutral number must be second.
    (commutes || e.value(op, "x") == Some(value)).then_some(value)
}

/// Merges an op and the op before it into one.
fn join(e: &mut Editor<'_>, facts: &Facts, op: OpId, output: ValueId) -> Option<()> {
    let x = e.value(op, "x")?;
    match e.f[op].kind {
        OpKind::Transpose => {
            let before = e.producer(x, OpKind::Transpose)?;
            let (first, second) = (permutation(e, before)?, permutation(e, op)?);
            let source = e.value(before, "x")?;
            let perm = second.iter().map(|&p| first.get(p).copied()).collect::<Option<Vec<usize>>>()?;
            if perm.iter().copied().eq(0..perm.len()) && e.replace(output, source) {
                return Some(());
            }
            let perm: Vec<i32> = perm.iter().map(|&p| p as i32).collect();
            let base = format!("{}_perm", e.f[output].name);
            let perm = e.new_const(op, &base, Value::ints(&perm));
            e.rewrite(
                op,
                e.f[op].kind,
                vec![Input::value(param!(Transpose.x), source), Input::value(param!(Transpose.perm), perm)],
            );
        }
        OpKind::Reshape | OpKind::ExpandDims | OpKind::Squeeze => {
            let reshapes = [OpKind::Reshape, OpKind::ExpandDims, OpKind::Squeeze];
            let before = reshapes.into_iter().find_map(|kind| e.producer(x, kind))?;
            let source = e.value(before, "x")?;
            let (from, to) = (fixed(facts, e, source)?.clone(), fixed(facts, e, output)?.clone());
            if from == to && e.replace(output, source) {
                return Some(());
            }
            if !e.has_op_for(OpKind::Reshape, to.dtype) {
                return None;
            }
            let shape = to.fixed_shape().filter(|s| !s.is_empty() && !s.contains(&0))?;
            let shape = shape.iter().map(|&n| i32::try_from(n).ok()).collect::<Option<Vec<i32>>>()?;
            let base = format!("{}_shape", e.f[output].name);
            let shape = e.new_const(op, &base, Value::ints(&shape));
            e.rewrite(
                op,
                OpKind::Reshape,
                vec![Input::value(param!(Reshape.x), source), Input::value(param!(Reshape.shape), shape)],
            );
        }
        OpKind::Cast => {
            let before = e.producer(x, OpKind::Cast)?;
            let source = e.value(before, "x")?;
            let (from, between, to) =
                (dtype(facts, e, source)?, dtype(facts, e, x)?, dtype(facts, e, output)?);
            if !lossless(from, between) {
                e.skip(op, "the cast before it may lose digits");
                return None;
            }
            if from == to && e.replace(output, source) {
                return Some(());
            }
            let mut inputs = e.f[op].inputs.clone();
            for input in inputs.iter_mut().filter(|i| i.name == "x") {
                *input = Input::value("x", source);
            }
            e.rewrite(op, e.f[op].kind, inputs);
        }
        _ => return None,
    }
    Some(())
}

/// Returns the type of a value, if every dimension is known.
fn fixed<'a>(facts: &'a Facts, e: &'a Editor<'_>, value: ValueId) -> Option<&'a TensorType> {
    facts.ty(e.f, value).as_tensor().filter(|t| t.fixed_shape().is_some())
}

fn dtype(facts: &Facts, e: &Editor<'_>, value: ValueId) -> Option<DType> {
    facts.ty(e.f, value).as_tensor().map(|t| t.dtype)
}

/// Returns the permutation of a `transpose`, with axes counted from the front.
fn permutation(e: &Editor<'_>, op: OpId) -> Option<Vec<usize>> {
    let perm = e.tensor(op, param!(Transpose.perm))?.to_i64()?;
    let rank = i64::try_from(perm.len()).ok()?;
    let axis = |&p: &i64| usize::try_from(if p < 0 { p + rank } else { p }).ok().filter(|&p| p < perm.len());
    perm.iter().map(axis).collect()
}

/// Whether the element type `to` represents every number of the type `from`.
fn lossless(from: DType, to: DType) -> bool {
    use DType::*;
    from == to
        || match from {
            Bool => to != String,
            Int8 => matches!(to, Int16 | Int32 | Int64 | Fp16 | Fp32 | Fp64),
            UInt8 => matches!(to, Int16 | UInt16 | Int32 | UInt32 | Int64 | UInt64 | Fp16 | Fp32 | Fp64),
            Int16 => matches!(to, Int32 | Int64 | Fp32 | Fp64),
            UInt16 => matches!(to, Int32 | UInt32 | Int64 | UInt64 | Fp32 | Fp64),
            Fp16 => matches!(to, Fp32 | Fp64),
            Fp32 => to == Fp64,
            _ => false,
        }
}
