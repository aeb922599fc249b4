//! Traces the outputs of a program back to their origin: what they mean, and whether they can depend on an input at
//! all.

use std::collections::HashSet;

use milwright_mil::{BlockId, Function, OpId, OpKind, ValueId, param};

use crate::{DType, Measure, Model, Tensor};

/// Chooses how to measure an output. If the model does not say enough, the first result decides.
pub(crate) fn measure(model: &Model, function: Option<&str>, output: &str, found: &Tensor) -> Measure {
    let info = model.info().function(function);
    let is = |name: Option<&String>| name.is_some_and(|n| n == output);
    if is(info.and_then(|f| f.predicted_probabilities.as_ref())) {
        return Measure::Classes;
    }
    // A regressor predicts a quantity, as a float.
    if is(info.and_then(|f| f.predicted_feature.as_ref())) && !found.dtype().is_float()
        || matches!(found.dtype(), DType::String | DType::Bool)
    {
        return Measure::Choices;
    }
    // The last model of a pipeline with this output.
    let gives =
        |part: &Model| part.info().function(None).is_some_and(|f| f.outputs.iter().any(|o| o.name == output));
    if let Some(part) = model.pipeline().iter().rev().find(|part| gives(part)) {
        return measure(part, None, output, found);
    }
    let value = model.function(function).ok().and_then(|f| Some((f, output_value(f, output)?)));
    let origin = value.map_or(Origin::Unknown, |(f, value)| origin(f, value, MAX_STEPS));
    match origin {
        Origin::Index => Measure::Choices,
        Origin::Softmax => Measure::Scores,
        Origin::Rounded => Measure::Numbers,
        Origin::Unknown => crate::Differences::measure_of(found),
    }
}

/// Whether an output can depend on an input or a state. If that is unknown, assumes that it can.
pub(crate) fn depends_on_inputs(model: &Model, function: Option<&str>, output: &str) -> bool {
    let Ok(f) = model.function(function) else {
        return model.info().function(function).is_none_or(|f| !f.inputs.is_empty());
    };
    let Some(value) = output_value(f, output) else { return !f.inputs.is_empty() };
    let mut dependent: HashSet<ValueId> = f.inputs.iter().copied().collect();
    for &op in &f[f.body].ops {
        if uses(f, op, &dependent) {
            dependent.extend(&f[op].outputs);
        }
    }
    dependent.contains(&value)
}

/// Whether an op, or an op nested in it, uses one of these values.
fn uses(f: &Function, op: OpId, values: &HashSet<ValueId>) -> bool {
    let block = |&block: &BlockId| {
        f[block].outputs.iter().any(|v| values.contains(v))
            || f[block].ops.iter().any(|&op| uses(f, op, values))
    };
    f[op].values().any(|v| values.contains(&v)) || f[op].blocks.iter().any(block)
}

fn output_value(f: &Function, output: &str) -> Option<ValueId> {
    f[f.body].outputs.iter().copied().find(|&v| f[v].name == output)
}

/// What a value stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// An index, a count or a truth value, whatever its element type.
    Index,
    /// An integer that was rounded from a float: a quantity.
    Rounded,
    /// The result of a softmax.
    Softmax,
    Unknown,
}

/// The number of ops to trace back through.
const MAX_STEPS: usize = 64;

fn origin(f: &Function, value: ValueId, steps: usize) -> Origin {
    let Some(op) = f.defining_op(value).filter(|_| steps > 0) else { return Origin::Unknown };
    let op = &f[op];
    let of = |name: &str| op.value(name).map_or(Origin::Unknown, |v| origin(f, v, steps - 1));
    let dtype = |v: ValueId| f[v].ty.as_tensor().map(|t| t.dtype);
    if dtype(value) == Some(DType::Bool) {
        return Origin::Index;
    }
    match op.kind {
        OpKind::ReduceArgmax | OpKind::ReduceArgmin | OpKind::Argsort | OpKind::NonZero => Origin::Index,
        OpKind::Topk if op.outputs.get(1) == Some(&value) => Origin::Index,
        // The outputs are boxes and scores, then indices and counts.
        OpKind::NonMaximumSuppression
            if op.outputs.iter().position(|&v| v == value).is_some_and(|i| i > 1) =>
        {
            Origin::Index
        }
        OpKind::Softmax => Origin::Softmax,
        OpKind::Cast => match of(param!(Cast.x)) {
            Origin::Unknown
                if dtype(value).is_some_and(|d| d.is_int())
                    && op.value(param!(Cast.x)).and_then(dtype).is_some_and(|d| d.is_float()) =>
            {
                Origin::Rounded
            }
            found => found,
        },
        // Ops whose outputs consist of elements of the first input.
        OpKind::Identity
        | OpKind::Reshape
        | OpKind::ExpandDims
        | OpKind::Squeeze
        | OpKind::Transpose
        | OpKind::SliceByIndex
        | OpKind::SliceBySize
        | OpKind::Tile
        | OpKind::Reverse
        | OpKind::Gather
        | OpKind::GatherAlongAxis
        | OpKind::GatherNd
        | OpKind::Topk
        | OpKind::ReduceMax
        | OpKind::ReduceMin
        | OpKind::Clip => of(param!(Identity.x)),
        OpKind::Concat
        | OpKind::Stack
        | OpKind::Select
        | OpKind::Add
        | OpKind::Sub
        | OpKind::Mul
        | OpKind::FloorDiv
        | OpKind::Mod
        | OpKind::Maximum
        | OpKind::Minimum => {
            let variable =
                op.values().filter(|&v| f.const_value(v).is_none() && dtype(v) != Some(DType::Bool));
            let mut origins = variable.map(|v| origin(f, v, steps - 1));
            match origins.next() {
                Some(first) if first != Origin::Softmax && origins.all(|o| o == first) => first,
                _ => Origin::Unknown,
            }
        }
        _ => Origin::Unknown,
    }
}
