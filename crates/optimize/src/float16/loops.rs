//! Finds the ops that decide how often loops run.

use std::collections::{HashMap, HashSet};

use milwright_mil::{Arg, BlockId, DType, Def, Function, OpId, OpKind, Type, ValueId};

/// Returns the ops that compute in floats how often a `while_loop` runs, each with the loop's name: all ops of the
/// condition, and those ops of the body that compute the loop variables it reads, through all iterations. Does not look
/// behind whole numbers (the token that a model chose, say).
pub(super) fn decisive(function: &Function) -> HashMap<OpId, String> {
    let ops = function.walk();
    let blocks = ops.iter().flat_map(|&op| function[op].blocks.iter().map(move |&block| (block, op)));
    let owners: HashMap<BlockId, OpId> = blocks.collect();
    let mut found = HashMap::new();
    for op in ops.into_iter().filter(|&op| function[op].kind == OpKind::WhileLoop) {
        let [condition, body] = function[op].blocks[..] else { continue };
        let name = function[op].outputs.first().map_or("", |&v| &function[v].name);
        for decisive in (Slice { function, owners: &owners, condition, body }).ops() {
            found.entry(decisive).or_insert_with(|| name.to_owned());
        }
    }
    found
}

/// One loop, of which the ops that its condition depends on are wanted.
struct Slice<'a> {
    function: &'a Function,
    /// For each nested block, the op that it belongs to.
    owners: &'a HashMap<BlockId, OpId>,
    condition: BlockId,
    body: BlockId,
}

impl Slice<'_> {
    fn ops(&self) -> HashSet<OpId> {
        let f = self.function;
        let mut found: HashSet<OpId> = self.inside(self.condition).into_iter().collect();
        let inside: HashSet<OpId> = self.inside(self.body).into_iter().collect();
        let mut wanted: Vec<ValueId> = found.iter().flat_map(|&op| f[op].values()).collect();
        wanted.extend(&f[self.condition].outputs);
        let mut seen = HashSet::new();
        while let Some(value) = wanted.pop() {
            if !is_followed(&f[value].ty) || !seen.insert(value) {
                continue;
            }
            match f[value].def {
                Def::Block(block, i) if block == self.condition || block == self.body => {
                    wanted.extend(f[self.body].outputs.get(i));
                }
                // A variable of a loop in the body depends on its first value and on those after each iteration.
                Def::Block(block, i) => {
                    if let Some(op) = self.owners.get(&block).filter(|op| inside.contains(op)) {
                        if let Some(Arg::Value(first)) =
                            f[*op].args(milwright_mil::param!(WhileLoop.loop_vars)).get(i)
                        {
                            wanted.push(*first);
                        }
                        wanted.extend(f[*op].blocks.iter().filter_map(|b| f[*b].outputs.get(i)));
                    }
                }
                Def::Op(op, i) if inside.contains(&op) => {
                    found.insert(op);
                    wanted.extend(f[op].values());
                    wanted.extend(f[op].blocks.iter().filter_map(|b| f[*b].outputs.get(i)));
                }
                _ => {}
            }
        }
        found
    }

    /// Returns all ops of a block, including those of nested blocks.
    fn inside(&self, block: BlockId) -> Vec<OpId> {
        let mut ops = Vec::new();
        let mut blocks = vec![block];
        while let Some(block) = blocks.pop() {
            for &op in &self.function[block].ops {
                ops.push(op);
                blocks.extend(&self.function[op].blocks);
            }
        }
        ops
    }
}

fn is_followed(ty: &Type) -> bool {
    match ty {
        Type::Tensor(t) => matches!(t.dtype, DType::Fp32 | DType::Bool),
        Type::List(element, _) => is_followed(element),
        _ => false,
    }
}
