//! `while_loop`

use crate::op;
use crate::ops::control_flow::join;
use crate::ops::{InferError, Inferred};
use crate::{DType, Type};

op! {
    /// Runs its second block, the body, as long as its first block, the condition, yields true.
    ///
    /// Both blocks take the loop variables; the body yields their next values. `loop_vars` are the first
    /// values; the results are the last ones. Shapes may change from iteration to iteration as far as the types of the
    /// blocks' inputs leave them open.
    WhileLoop since Ios13 {
        loop_vars: ManyAny,
    }
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let first = &p.loop_vars;
    let [condition, body] = &p.view.block_outputs[..] else {
        return Err(InferError(format!("has {} blocks, 2 are needed", p.view.block_outputs.len())));
    };
    match &condition[..] {
        [Type::Tensor(t)] if t.dtype == DType::Bool && t.elements().is_none_or(|n| n == 1) => {}
        _ => return Err(InferError("the first block must yield one bool".into())),
    }
    if body.len() != first.len() {
        let (n, m) = (body.len(), first.len());
        return Err(InferError(format!("the body yields {n} values for {m} loop variables")));
    }
    // The loop may end before its first iteration, so a result is either an initial value or a value of the body.
    let join = |(i, (a, b))| {
        join(a, b)
            .map(Inferred::from)
            .ok_or_else(|| InferError(format!("loop variable {i} is {a} at first, but {b} after an iteration")))
    };
    first.iter().map(|a| a.ty).zip(body).enumerate().map(join).collect()
}
