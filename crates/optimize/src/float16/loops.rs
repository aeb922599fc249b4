//! What decides how often loops run.

use std::collections::{HashMap, HashSet};

use milwright_mil::{Arg, BlockId, DType, Def, Function, OpId, OpKind, Type, ValueId};

/// The ops that compute, in floats, what the condition of a `while_loop` asks, and the loop's name: all ops of the
/// condition, and those of the body that make the loop variables that it looks at, from turn to turn. What becomes a
/// whole number on the way (the token that a model chose, say) is not followed further.
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

/// The part of one loop that its condition depends on.
struct Slice<'a> {
    function: &'a Function,
    /// The op that each block is of.
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
                // A variable of a loop in the body: its first value, and those after each turn.
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

    /// All ops of a block, those of blocks in it included.
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
