//! `cond`

use crate::Opset;
use crate::op;
use crate::ops::control_flow::join;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// Runs the first of its two blocks if `pred` is true, the second otherwise; the results are the outputs
    /// of that block.
    ///
    /// `pred` is one bool. The blocks have no inputs, and as many outputs as the op, of types that agree.
    Cond,
    &[Version { opset: Opset::Ios13, params: &[required("pred", Kind::BOOL)], types: &[] }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    if op.tensor("pred")?.elements().is_some_and(|n| n != 1) {
        return Err(InferError(format!("input `pred` is {}, one bool is needed", op.tensor("pred")?)));
    }
    let [yes, no] = &op.block_outputs[..] else {
        return Err(InferError(format!("has {} blocks, 2 are needed", op.block_outputs.len())));
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
