//! `cond`

use crate::op;
use crate::ops::control_flow::join;
use crate::ops::{InferError, Inferred};

op! {
    /// Runs the first of its two blocks if `pred` is true, the second otherwise; the results are the outputs
    /// of that block.
    ///
    /// `pred` is one bool. The blocks have no inputs, and as many outputs as the op, of types that agree.
    Cond since Ios13 {
        pred: Operand<[Bool]>,
    }
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    if p.pred.elements().is_some_and(|n| n != 1) {
        return Err(InferError(format!("input `pred` is {}, one bool is needed", p.pred)));
    }
    let [yes, no] = &p.view.block_outputs[..] else {
        return Err(InferError(format!("has {} blocks, 2 are needed", p.view.block_outputs.len())));
    };
    if yes.len() != no.len() {
        return Err(InferError(format!("one block has {} outputs, the other {}", yes.len(), no.len())));
    }
    let join = |(i, (a, b))| {
        join(a, b)
            .map(Inferred::from)
            .ok_or_else(|| InferError(format!("output {i} is {a} of the first block, {b} of the second")))
    };
    yes.iter().zip(no).enumerate().map(join).collect()
}
