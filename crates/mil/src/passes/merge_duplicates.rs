//! Merges ops that compute the same value (common subexpression elimination).
//!
//! ```text
//! a = exp(x = x)            a = exp(x = x)
//! b = exp(x = x)
//! y = add(x = a, y = b)     y = add(x = a, y = a)
//! ```
//!
//! Operands that are equal constants count as the same. The constants themselves are not merged: each keeps the name
//! that its layer gave it, and parameters that are equal by chance are not the same parameter. Ops with effects (random
//! numbers, states) and ops with blocks are never merged.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use super::Editor;
use crate::{Arg, BlockId, Evaluate, Function, OpId, OpKind, Value, ValueId};

pub(super) fn run(e: &mut Editor<'_>, _: Option<&dyn Evaluate>) {
    let mut seen = Seen { state: RandomState::new(), by_hash: HashMap::new(), trail: Vec::new() };
    let mut same = HashMap::new();
    merge_block(e, e.f.body, &mut seen, &mut same);
}

/// The ops that are visible at this point, by the hash of their kind and operands.
struct Seen {
    state: RandomState,
    by_hash: HashMap<u64, Vec<OpId>>,
    trail: Vec<u64>,
}

/// Merges the ops of a block. `same` maps outputs of merged ops to those that replace them. The verifier limits the
/// depth of the recursion.
fn merge_block(e: &mut Editor<'_>, block: BlockId, seen: &mut Seen, same: &mut HashMap<ValueId, ValueId>) {
    let outer = seen.trail.len();
    for op in e.f[block].ops.clone() {
        for nested in e.f[op].blocks.clone() {
            merge_block(e, nested, seen, same);
        }
        let is_const = e.f[op].kind == OpKind::Const;
        if is_const || !Editor::is_pure(&e.f[op]) || e.f[op].outputs.is_empty() {
            continue;
        }
        let hash = hash(e.f, op, same, &seen.state);
        let candidates = seen.by_hash.entry(hash).or_default();
        let earlier = candidates.iter().copied().find(|&c| equal(e.f, c, op, same));
        let merged = earlier.is_some_and(|c| merge(e, c, op, same));
        if !merged {
            seen.by_hash.entry(hash).or_default().push(op);
            seen.trail.push(hash);
        }
    }
    for hash in seen.trail.drain(outer..) {
        seen.by_hash.get_mut(&hash).map(Vec::pop);
    }
}

/// Replaces the outputs of `op` by those of `earlier`, if all can be replaced.
fn merge(e: &mut Editor<'_>, earlier: OpId, op: OpId, same: &mut HashMap<ValueId, ValueId>) -> bool {
    let pairs: Vec<_> = e.f[op].outputs.iter().copied().zip(e.f[earlier].outputs.clone()).collect();
    if pairs.iter().any(|&(from, _)| e.is_output(from)) {
        e.skip(op, "the duplicate is an output");
        return false;
    }
    for (from, to) in pairs {
        e.replace(from, to);
        same.insert(from, to);
    }
    true
}

fn hash(f: &Function, op: OpId, same: &HashMap<ValueId, ValueId>, state: &RandomState) -> u64 {
    let op = &f[op];
    let mut h = state.build_hasher();
    op.kind.hash(&mut h);
    for input in &op.inputs {
        input.name.hash(&mut h);
        for arg in &input.args {
            match operand(f, arg, same) {
                Operand::Value(v) => v.hash(&mut h),
                Operand::Const(c) => hash_value(c, &mut h),
            }
        }
    }
    op.outputs.iter().for_each(|&o| f[o].ty.hash(&mut h));
    h.finish()
}

/// Larger constants, in bytes, are equal only if they have the same address: reading all weights of a model to find
/// equal ones would cost more than it ever saves.
const COMPARED_BYTES: usize = 1 << 16;

/// Hashes a value. Lists and dictionaries all hash alike; comparison tells them apart.
fn hash_value(value: &Value, h: &mut impl Hasher) {
    if let Some(t) = value.as_tensor() {
        t.dtype().hash(h);
        t.shape().hash(h);
        match t.bytes().len() {
            ..=COMPARED_BYTES => t.bytes().hash(h),
            _ => t.bytes().as_ptr().hash(h),
        }
        t.strings().hash(h);
    }
}

fn equal_values(a: &Value, b: &Value) -> bool {
    match (a.as_tensor(), b.as_tensor()) {
        (Some(a), Some(b)) if a.bytes().len() > COMPARED_BYTES => {
            a.dtype() == b.dtype() && a.shape() == b.shape() && std::ptr::eq(a.bytes(), b.bytes())
        }
        _ => a == b,
    }
}

fn equal(f: &Function, a: OpId, b: OpId, same: &HashMap<ValueId, ValueId>) -> bool {
    let (a, b) = (&f[a], &f[b]);
    let arg = |a: &Arg, b: &Arg| match (operand(f, a, same), operand(f, b, same)) {
        (Operand::Value(a), Operand::Value(b)) => a == b,
        (Operand::Const(a), Operand::Const(b)) => equal_values(a, b),
        _ => false,
    };
    let types = |ids: &[ValueId]| ids.iter().map(|&v| f[v].ty.clone()).collect::<Vec<_>>();
    a.kind == b.kind
        && types(&a.outputs) == types(&b.outputs)
        && a.inputs.len() == b.inputs.len()
        && a.inputs.iter().zip(&b.inputs).all(|(a, b)| {
            a.name == b.name
                && a.args.len() == b.args.len()
                && a.args.iter().zip(&b.args).all(|(a, b)| arg(a, b))
        })
}

/// An operand of an op, reduced to what determines the op's result.
enum Operand<'a> {
    Value(ValueId),
    Const(&'a Value),
}

fn operand<'a>(f: &'a Function, arg: &'a Arg, same: &HashMap<ValueId, ValueId>) -> Operand<'a> {
    match arg {
        Arg::Const(c) => Operand::Const(c),
        Arg::Value(v) => {
            let v = same.get(v).copied().unwrap_or(*v);
            f.const_value(v).map_or(Operand::Value(v), Operand::Const)
        }
    }
}
