//! Traces the outputs of a program back to their origin: what they mean, and whether they can depend on an input at
//! all.

use std::collections::{HashMap, HashSet};

use milwright_mil::{BlockId, Function, OpId, OpKind, ValueId, param};

use crate::{DType, Measure, Model, Tensor};

/// What is known of the outputs of a function.
pub(crate) struct Provenance<'a> {
    model: &'a Model,
    function: Option<&'a str>,
    /// Of the models of a pipeline.
    parts: Vec<Provenance<'a>>,
    program: Option<Traced<'a>>,
}

/// The values of a program, traced from its inputs to its outputs.
struct Traced<'a> {
    outputs: HashMap<&'a str, ValueId>,
    /// What values stand for, as far as that is known.
    origins: HashMap<ValueId, Origin>,
    /// The values that can depend on an input or a state.
    dependent: HashSet<ValueId>,
}

impl<'a> Provenance<'a> {
    /// Traces the outputs of a function.
    pub fn of(model: &'a Model, function: Option<&'a str>) -> Provenance<'a> {
        let parts = model.pipeline().iter().map(|part| Provenance::of(part, None)).collect();
        Provenance { model, function, parts, program: model.function(function).ok().map(Traced::new) }
    }

    /// Chooses how to measure an output. If the model does not say enough, the first result decides.
    pub fn measure(&self, output: &str, found: &Tensor) -> Measure {
        let info = self.model.info().function(self.function);
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
        let gives = |part: &&Provenance<'_>| {
            part.model.info().function(None).is_some_and(|f| f.outputs.named(output).is_some())
        };
        if let Some(part) = self.parts.iter().rev().find(gives) {
            return part.measure(output, found);
        }
        let origin = self.program.as_ref().map_or(Origin::Unknown, |program| program.origin(output));
        match origin {
            Origin::Index => Measure::Choices,
            Origin::Softmax => Measure::Scores,
            Origin::Rounded => Measure::Numbers,
            Origin::Unknown => crate::Differences::measure_of(found),
        }
    }

    /// Whether an output can depend on an input or a state. If that is unknown, assumes that it can.
    pub fn depends_on_inputs(&self, output: &str) -> bool {
        let program = self.program.as_ref();
        let value = program.and_then(|program| Some((program, program.outputs.get(output)?)));
        match value {
            Some((program, value)) => program.dependent.contains(value),
            None => self.model.info().function(self.function).is_none_or(|f| !f.inputs.is_empty()),
        }
    }
}

impl<'a> Traced<'a> {
    fn new(f: &'a Function) -> Traced<'a> {
        let outputs = f[f.body].outputs.iter().rev().map(|&v| (f[v].name.as_str(), v)).collect();
        let dependent = f.inputs.iter().copied().collect();
        let mut traced = Traced { outputs, origins: HashMap::new(), dependent };
        for &op in &f[f.body].ops {
            if uses(f, op, &traced.dependent) {
                traced.dependent.extend(&f[op].outputs);
            }
            for &value in &f[op].outputs {
                match origin(f, op, value, &traced.origins) {
                    Origin::Unknown => {}
                    known => _ = traced.origins.insert(value, known),
                }
            }
        }
        traced
    }

    fn origin(&self, output: &str) -> Origin {
        let value = self.outputs.get(output);
        value.and_then(|value| self.origins.get(value)).copied().unwrap_or(Origin::Unknown)
    }
}

/// Whether an op, or an op nested in it, uses one of these values.
fn uses(f: &Function, op: OpId, values: &HashSet<ValueId>) -> bool {
    let block = |&block: &BlockId| {
        f[block].outputs.iter().any(|v| values.contains(v))
            || f[block].ops.iter().any(|&op| uses(f, op, values))
    };
    f[op].values().any(|v| values.contains(&v)) || f[op].blocks.iter().any(block)
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

/// What an output of an op stands for, given those of the ops before it.
fn origin(f: &Function, op: OpId, value: ValueId, known: &HashMap<ValueId, Origin>) -> Origin {
    let op = &f[op];
    let of_value = |v: ValueId| known.get(&v).copied().unwrap_or(Origin::Unknown);
    let of = |name: &str| op.value(name).map_or(Origin::Unknown, of_value);
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
            let mut origins = variable.map(of_value);
            match origins.next() {
                Some(first) if first != Origin::Softmax && origins.all(|o| o == first) => first,
                _ => Origin::Unknown,
            }
        }
        _ => Origin::Unknown,
    }
}
