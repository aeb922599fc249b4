//! Computes the same thing once: common subexpressions, and equal constants.
//!
//! ```text
//! a = exp(x = x)            a = exp(x = x)
//! b = exp(x = x)
//! y = add(x = a, y = b)     y = add(x = a, y = a)
//! ```
//!
//! Ops with effects (random numbers, states) and ops with blocks are never merged.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use super::Editor;
use crate::{Arg, BlockId, Evaluate, Function, OpId, OpKind, Value, ValueId};

pub(super) fn run(e: &mut Editor<'_>, _: Option<&dyn Evaluate>) {
    let mut seen = Seen { state: RandomState::new(), by_hash: HashMap::new(), trail: Vec::new() };
    let mut same = HashMap::new();
    merge_block(e, e.f.body, &mut seen, &mut same);
}

/// The ops that are visible here, by the hash of what they compute.
struct Seen {
    state: RandomState,
    by_hash: HashMap<u64, Vec<OpId>>,
    trail: Vec<u64>,
}

/// `same` maps outputs of merged ops to those that stand for them. The verifier bounds the depth of the recursion.
fn merge_block(e: &mut Editor<'_>, block: BlockId, seen: &mut Seen, same: &mut HashMap<ValueId, ValueId>) {
    let outer = seen.trail.len();
    for op in e.f[block].ops.clone() {
        for nested in e.f[op].blocks.clone() {
            merge_block(e, nested, seen, same);
        }
        if !Editor::is_pure(&e.f[op]) || e.f[op].outputs.is_empty() {
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

/// Lets the outputs of `earlier` stand for those of `op`, if all may.
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
            match arg {
                Arg::Value(v) => canonical(*v, same).hash(&mut h),
                Arg::Const(c) => hash_value(c, &mut h),
            }
        }
    }
    op.outputs.iter().for_each(|&o| f[o].ty.hash(&mut h));
    if op.kind == OpKind::Const
        && let Some(val) = op.attributes.get("val")
    {
        hash_value(val, &mut h);
    }
    h.finish()
}

/// Lists and dictionaries are told apart by comparing.
fn hash_value(value: &Value, h: &mut impl Hasher) {
    if let Some(t) = value.as_tensor() {
        t.dtype().hash(h);
        t.shape().hash(h);
        t.bytes().hash(h);
        t.strings().hash(h);
    }
}

fn equal(f: &Function, a: OpId, b: OpId, same: &HashMap<ValueId, ValueId>) -> bool {
    let (a, b) = (&f[a], &f[b]);
    let arg = |a: &Arg, b: &Arg| match (a, b) {
        (Arg::Value(a), Arg::Value(b)) => canonical(*a, same) == canonical(*b, same),
        (Arg::Const(a), Arg::Const(b)) => a == b,
        _ => false,
    };
    let types = |ids: &[ValueId]| ids.iter().map(|&v| f[v].ty.clone()).collect::<Vec<_>>();
    a.kind == b.kind
        && a.attributes.get("val") == b.attributes.get("val")
        && types(&a.outputs) == types(&b.outputs)
        && a.inputs.len() == b.inputs.len()
        && a.inputs.iter().zip(&b.inputs).all(|(a, b)| {
            a.name == b.name
                && a.args.len() == b.args.len()
                && a.args.iter().zip(&b.args).all(|(a, b)| arg(a, b))
        })
}

fn canonical(value: ValueId, same: &HashMap<ValueId, ValueId>) -> ValueId {
    same.get(&value).copied().unwrap_or(value)
}
