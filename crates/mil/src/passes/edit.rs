//! Helpers that all passes use: they match ops from their results upward, and rewrite them in place.
//!
//! A rewrite turns the last op of a pattern into another op and keeps its outputs: names, types, and uses. The other
//! ops of the pattern become dead when nothing uses them any more. A rewritten op may use the inputs of the ops that it
//! replaces, because a value that is visible at an op is also visible at all users of the op's outputs.

use std::collections::{HashMap, HashSet};

use half::f16;

use crate::infer::{Facts, infer};
use crate::{Arg, BlockId, DType, Function, Input, Op, OpId, OpKind, Tensor, Type, Value, ValueId};

/// A function that is being rewritten.
pub(super) struct Editor<'f> {
    pub f: &'f mut Function,
    /// For every value, how many uses by ops it has, and which block it is an output of.
    uses: Vec<u32>,
    output_of: Vec<Option<BlockId>>,
    /// For every op, the block that it is in.
    block_of: Vec<Option<BlockId>>,
    /// How many values have each name; computed when it is first needed.
    names: HashMap<String, u32>,
    /// New ops, by the op that they are inserted before.
    before: HashMap<OpId, Vec<OpId>>,
    replaced: HashMap<ValueId, ValueId>,
    /// The bytes that new constants may still take.
    budget: usize,
    changes: usize,
}

/// The bytes that new constants may take, in addition to twice the bytes of the function's constants. That is enough
/// for any real model, and it stops programs in which thousands of ops share a weight and each wants it changed.
const EXTRA_BYTES: usize = 64 << 20;

impl<'f> Editor<'f> {
    pub fn new(f: &'f mut Function) -> Editor<'f> {
        let mut uses = vec![0; f.value_count()];
        let mut output_of = vec![None; f.value_count()];
        let mut block_of = vec![None; f.op_count()];
        let mut blocks = vec![f.body];
        while let Some(block) = blocks.pop() {
            for &op in &f[block].ops {
                block_of[op.index()] = Some(block);
                f[op].values().for_each(|v| uses[v.index()] += 1);
                blocks.extend(&f[op].blocks);
            }
            for &output in &f[block].outputs {
                output_of[output.index()] = Some(block);
            }
        }
        let names = HashMap::new();
        let (before, replaced) = (HashMap::new(), HashMap::new());
        let constants = f.values().filter_map(|(v, _)| f.const_value(v)?.as_tensor());
        let bytes = constants.fold(0usize, |n, t| n.saturating_add(t.bytes().len()));
        let budget = bytes.saturating_mul(2).saturating_add(EXTRA_BYTES);
        Editor { f, uses, output_of, block_of, names, before, replaced, budget, changes: 0 }
    }

    /// Inserts new ops, redirects uses, and returns the number of rewrites.
    pub fn finish(self) -> usize {
        let f = self.f;
        if !self.before.is_empty() {
            let blocks: HashSet<BlockId> =
                self.before.keys().filter_map(|op| self.block_of[op.index()]).collect();
            for block in blocks {
                let old = std::mem::take(&mut f[block].ops);
                let new = |op: OpId| self.before.get(&op).into_iter().flatten().copied().chain([op]);
                f[block].ops = old.into_iter().flat_map(new).collect();
            }
        }
        if !self.replaced.is_empty() {
            let resolved = self.replaced.keys().map(|&v| (v, resolve(&self.replaced, v))).collect();
            f.replace_all_uses(&resolved);
        }
        self.changes
    }

    /// Counts changes that were made without the editor.
    pub fn count(&mut self, changes: usize) {
        self.changes += changes;
    }

    /// Infers the facts of the function in its present state.
    pub fn facts(&self) -> Facts {
        infer(self.f, &[], None).0
    }

    /// Logs why a pattern that matched so far was left alone.
    pub fn skip(&self, op: OpId, reason: &str) {
        let op = &self.f[op];
        tracing::debug!(op = op.kind.name(), name = op.name(), reason, "left as it is");
    }

    pub fn is(&self, op: OpId, kind: OpKind) -> bool {
        self.f[op].kind == kind
    }

    /// The value bound to a parameter, if it is a single value.
    pub fn value(&self, op: OpId, name: &str) -> Option<ValueId> {
        self.f[op].value(name).map(|v| resolve(&self.replaced, v))
    }

    /// The op that defines a value, if it is of this kind.
    pub fn producer(&self, value: ValueId, kind: OpKind) -> Option<OpId> {
        let op = self.f.defining_op(value)?;
        (self.is(op, kind) && self.block_of[op.index()].is_some()).then_some(op)
    }

    /// The constant tensor that is bound to a parameter.
    pub fn tensor(&self, op: OpId, name: &str) -> Option<&Tensor> {
        match self.f[op].args(name) {
            [Arg::Const(c)] => c.as_tensor(),
            [Arg::Value(v)] => self.f.const_value(resolve(&self.replaced, *v))?.as_tensor(),
            _ => None,
        }
    }

    /// The number that is bound to a parameter, if it is a constant of one element.
    pub fn number(&self, op: OpId, name: &str) -> Option<f64> {
        let t = self.tensor(op, name).filter(|t| t.elements() == 1 && t.dtype() != DType::String)?;
        t.to_f64().first().copied()
    }

    /// A binary op as a value and its other parameter, both ways: (value of `x`, `"y"`) and (value of `y`, `"x"`).
    pub fn operands(&self, op: OpId) -> impl Iterator<Item = (ValueId, &'static str)> {
        [("x", "y"), ("y", "x")].into_iter().filter_map(move |(a, b)| Some((self.value(op, a)?, b)))
    }

    /// Whether exactly one op uses the value, once, and no block returns it.
    pub fn used_once(&self, value: ValueId) -> bool {
        self.uses.get(value.index()) == Some(&1) && !self.is_output(value)
    }

    /// Whether the function or a nested block returns the value.
    pub fn is_output(&self, value: ValueId) -> bool {
        self.output_of.get(value.index()).is_some_and(Option::is_some)
    }

    /// Turns an op into another one with the same outputs.
    pub fn rewrite(&mut self, op: OpId, kind: OpKind, inputs: Vec<Input>) {
        for value in self.f[op].values().collect::<Vec<_>>() {
            self.uses[value.index()] -= 1;
        }
        self.f[op].kind = kind;
        self.f[op].inputs = inputs;
        for value in self.f[op].values().collect::<Vec<_>>() {
            self.uses[value.index()] += 1;
        }
        self.changes += 1;
    }

    /// Turns an op into a `const` with the same output.
    pub fn rewrite_as_const(&mut self, op: OpId, value: Value) {
        self.rewrite(op, OpKind::Const, Vec::new());
        let output = self.f[op].outputs[0];
        self.f[output].ty = value.ty();
        self.f[op].attributes.insert("val".into(), value);
    }

    /// Takes the bytes of a new constant from the budget, before it is computed; returns false if not enough are left.
    pub fn afford(&mut self, op: OpId, bytes: usize) -> bool {
        let left = self.budget.checked_sub(bytes);
        if left.is_none() {
            self.skip(op, "the passes have made too many constants");
        }
        self.budget = left.unwrap_or(self.budget);
        left.is_some()
    }

    /// Makes a new constant, defined right before `op`.
    pub fn new_const(&mut self, op: OpId, base: &str, value: impl Into<Value>) -> ValueId {
        let mut name = base.to_owned();
        let mut i = 0;
        while self.names().contains_key(&name) {
            name = format!("{base}_{i}");
            i += 1;
        }
        self.names.insert(name.clone(), 1);
        let (new, output) = self.f.make_const(name, value.into());
        self.before.entry(op).or_default().push(new);
        self.uses.push(0);
        self.output_of.push(None);
        self.block_of.push(self.block_of[op.index()]);
        output
    }

    /// Makes a new op with one result, right before `op`.
    pub fn new_op(&mut self, op: OpId, kind: OpKind, inputs: Vec<Input>, base: &str, ty: Type) -> ValueId {
        let mut name = base.to_owned();
        let mut i = 0;
        while self.names().contains_key(&name) {
            name = format!("{base}_{i}");
            i += 1;
        }
        self.names.insert(name.clone(), 1);
        let new = self.f.make_op(kind, inputs, [(name, ty)]);
        let output = self.f[new].outputs[0];
        for value in self.f[new].values().collect::<Vec<_>>() {
            self.uses[value.index()] += 1;
        }
        self.before.entry(op).or_default().push(new);
        self.uses.push(0);
        self.output_of.push(None);
        self.block_of.push(self.block_of[op.index()]);
        output
    }

    /// The block that an op is in.
    pub fn block_of(&self, op: OpId) -> Option<BlockId> {
        self.block_of[op.index()]
    }

    /// Redirects all uses of `from` to `to`, which must be visible wherever `from` is. If a block returns `from`, an op
    /// of the same block must define `to`, which then takes over name and type; otherwise nothing happens, and it
    /// returns false.
    pub fn replace(&mut self, from: ValueId, to: ValueId) -> bool {
        if let Some(block) = self.output_of[from.index()] {
            let same_block = self.f.defining_op(to).is_some_and(|op| {
                self.block_of[op.index()] == Some(block) && self.f[op].kind != OpKind::Const
            });
            if !same_block || self.is_output(to) || self.is_name_repeated(from) {
                return false;
            }
            let name = std::mem::take(&mut self.f[from].name);
            self.f[from].name = std::mem::replace(&mut self.f[to].name, name);
            self.f[to].ty = self.f[from].ty.clone();
            self.output_of[to.index()] = Some(block);
        }
        self.uses[to.index()] += self.uses[from.index()];
        self.replaced.insert(from, to);
        self.changes += 1;
        true
    }

    /// Makes a new constant that replaces `old`, defined right before `op`. It takes over the name of `old` if `old`
    /// has no other use, because users know weights by their names.
    pub fn successor(&mut self, op: OpId, old: ValueId, base: &str, value: impl Into<Value>) -> ValueId {
        if self.uses[old.index()] != 1 || self.is_output(old) || self.is_name_repeated(old) {
            return self.new_const(op, base, value);
        }
        let name = self.f[old].name.clone();
        self.names().remove(&name);
        let new = self.new_const(op, &name, value);
        let mut dead = format!("{name}_before");
        while self.names().contains_key(&dead) {
            dead.push('_');
        }
        self.names().insert(dead.clone(), 1);
        self.f[old].name = dead;
        new
    }

    /// Whether another value has the same name, so that the name cannot move to another place.
    fn is_name_repeated(&mut self, value: ValueId) -> bool {
        let name = self.f[value].name.clone();
        self.names().get(&name).is_some_and(|&n| n > 1)
    }

    fn names(&mut self) -> &mut HashMap<String, u32> {
        if self.names.is_empty() {
            for (_, value) in self.f.values() {
                *self.names.entry(value.name.clone()).or_default() += 1;
            }
        }
        &mut self.names
    }

    /// Whether this function's opset has a version of the op whose type variable `T` may be this element type.
    pub fn has_op_for(&self, kind: OpKind, dtype: DType) -> bool {
        kind.version(self.f.opset).is_some_and(|v| v.allows("T", dtype))
    }

    /// Whether an op may be repeated, shared or dropped: it has no effects and no blocks.
    pub fn is_pure(op: &Op) -> bool {
        op.kind.effect() == crate::ops::Effect::None && op.blocks.is_empty()
    }
}

fn resolve(replaced: &HashMap<ValueId, ValueId>, mut value: ValueId) -> ValueId {
    while let Some(&to) = replaced.get(&value) {
        value = to;
    }
    value
}

/// Makes a float tensor; `None` for other element types, or if an element does not fit.
pub(super) fn float_tensor(dtype: DType, shape: &[usize], elements: &[f64]) -> Option<Tensor> {
    let fits = match dtype {
        DType::Fp16 => elements.iter().all(|&x| f16::from_f64(x).is_finite()),
        _ => elements.iter().all(|&x| (x as f32).is_finite()),
    };
    let tensor = match dtype {
        DType::Fp16 => Tensor::from_vec(shape, elements.iter().map(|&x| f16::from_f64(x)).collect()),
        DType::Fp32 => Tensor::from_vec(shape, elements.iter().map(|&x| x as f32).collect()),
        _ => return None,
    };
    tensor.ok().filter(|_| fits)
}

/// The element type of a float tensor type.
pub(super) fn float_dtype(ty: &Type) -> Option<DType> {
    Some(ty.as_tensor()?.dtype).filter(|d| matches!(d, DType::Fp16 | DType::Fp32))
}

/// Whether two numbers are the same constant, up to the rounding of an element type.
pub(super) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-3 * b.abs()
}
