//! Drops ops whose results have no uses.
//!
//! ```text
//! y = relu(x = x)
//! z = exp(x = x)          gone, if z is not used
//! -> (y)
//! ```
//!
//! Ops that read or write a state stay, and so do the ops whose blocks contain them.

use super::Editor;
use crate::ops::Effect;
use crate::{BlockId, Evaluate, OpId, ValueId};

pub(super) fn run(e: &mut Editor<'_>, _: Option<&dyn Evaluate>) {
    let ops = e.f.walk();
    let mut live = vec![false; e.f.op_count()];
    // A state op runs only if the op whose block it is in does. Going backwards visits nested ops first.
    for &op in ops.iter().rev() {
        let nested = e.f[op].blocks.iter().flat_map(|&b| &e.f[b].ops);
        live[op.index()] =
            e.f[op].kind.effect() == Effect::State || nested.into_iter().any(|n| live[n.index()]);
    }
    let mut work: Vec<OpId> = ops.iter().copied().filter(|op| live[op.index()]).collect();
    let mut uses: Vec<ValueId> = e.f[e.f.body].outputs.clone();
    loop {
        for value in uses.drain(..) {
            if let Some(op) = e.f.defining_op(value)
                && !std::mem::replace(&mut live[op.index()], true)
            {
                work.push(op);
            }
        }
        let Some(op) = work.pop() else { break };
        uses.extend(e.f[op].values());
        uses.extend(e.f[op].blocks.iter().flat_map(|&b| e.f[b].outputs.iter().copied()));
    }
    let mut blocks: Vec<BlockId> = vec![e.f.body];
    while let Some(block) = blocks.pop() {
        let ops = std::mem::take(&mut e.f[block].ops);
        let kept: Vec<OpId> = ops.iter().copied().filter(|op| live[op.index()]).collect();
        e.count(ops.len() - kept.len());
        blocks.extend(kept.iter().flat_map(|&op| e.f[op].blocks.iter().copied()));
        e.f[block].ops = kept;
    }
}
