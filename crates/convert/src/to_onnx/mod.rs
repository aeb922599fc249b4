//! ML programs as ONNX models.
//!
//! One trait, `Lower`, has for each op of MIL the nodes that compute it, or why none do; an op without it does not
//! compile. Weights stay compressed where ONNX has a form for them. States become inputs and outputs.

mod constants;
mod control;
mod elementwise;
mod graph;
mod image;
mod network;
mod recurrent;
mod tensor;

use milwright_formats::onnx::proto as pb;
use milwright_mil::infer::infer;
use milwright_mil::ops::{OpDef, OpView};
use milwright_mil::{Checked, Evaluate, Function, OpId, OpKind, Type, for_each_op};

use crate::Error;
use graph::{Graph, Node, Result, broken, tensor_type};

/// The opset of the models: 21 brought weights of 4 bits and in blocks.
const OPSET: i64 = 21;
/// The format version that belongs to it.
const IR_VERSION: i64 = 10;

/// Makes an ONNX model of a function. Nothing is computed but compressed weights that ONNX has no form for.
///
/// # Errors
/// An op has no counterpart. The error names it, and says why.
pub fn export(
    program: &Checked,
    function: &str,
    engine: Option<&dyn Evaluate>,
) -> std::result::Result<pb::ModelProto, Error> {
    let body = program
        .functions
        .get(function)
        .ok_or_else(|| Error::malformed(format!("there is no function `{function}`")))?;
    let (facts, errors) = infer(body, &[], None);
    if let Some(error) = errors.into_iter().next() {
        return Err(broken(error.error).at(place(body, error.op)));
    }
    let mut graph = Graph::new(body, &facts, engine);
    let graph = whole(&mut graph, function)?;
    let uses_ml = graph.node.iter().any(|n| n.domain() == control::ML);
    let opset = |domain: &str, version| pb::OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    Ok(pb::ModelProto {
        ir_version: Some(IR_VERSION),
        opset_import: std::iter::once(opset("", OPSET))
            .chain(uses_ml.then(|| opset(control::ML, 4)))
            .collect(),
        producer_name: Some("Milwright".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(Box::new(graph)),
        ..Default::default()
    })
}

fn place(function: &Function, op: OpId) -> String {
    let op = &function[op];
    let name = op.outputs.first().map_or("", |&v| function[v].name.as_str());
    format!("op `{}` ({name})", op.kind.name())
}

/// The graph of the whole function.
fn whole(g: &mut Graph<'_>, name: &str) -> Result<pb::GraphProto> {
    let function = g.function;
    let outputs = &function[function.body].outputs;
    for &value in function.inputs.iter().chain(outputs) {
        g.fresh(&function[value].name);
    }
    let mut inputs = Vec::new();
    for &input in &function.inputs {
        let name = function[input].name.clone();
        let ty = match g.facts.ty(function, input) {
            Type::State(inner) => tensor_type(inner)?,
            other => tensor_type(other)?,
        };
        inputs.push(g.info(&name, ty)?);
        if matches!(function[input].ty, Type::State(_)) {
            g.states.insert(input, name.clone());
        }
        g.bind(input, name);
    }
    for &op in &function[function.body].ops {
        g.lower(op)?;
    }
    let mut infos = Vec::new();
    for &output in outputs {
        let mut wanted = function[output].name.clone();
        if function.inputs.contains(&output) {
            wanted = g.fresh(&format!("{wanted}_output"));
        }
        let found = g.value(output)?;
        if found != wanted {
            g.rename(&found, &wanted);
        }
        infos.push(match function.defining_op(output).filter(|&op| function[op].kind == OpKind::Classify) {
            Some(op) => control::class_info(g, op, output, &wanted)?,
            None => g.info(&wanted, g.ty(output)?)?,
        });
    }
    for &input in &function.inputs {
        let Some(last) = g.states.get(&input).cloned() else { continue };
        let wanted = g.fresh(&format!("{}_out", function[input].name));
        g.rename(&last, &wanted);
        let Type::State(inner) = &function[input].ty else { continue };
        infos.push(g.info(&wanted, tensor_type(inner)?)?);
    }
    Ok(pb::GraphProto {
        name: Some(name.to_owned()),
        node: std::mem::take(&mut g.nodes),
        initializer: std::mem::take(&mut g.tensors),
        input: inputs,
        output: infos,
        ..Default::default()
    })
}

impl Graph<'_> {
    /// Appends the nodes of an op.
    fn lower(&mut self, id: OpId) -> Result<()> {
        let function = self.function;
        let start = self.nodes.len();
        let facts = self.facts;
        let made = facts
            .view(function, id)
            .map_err(broken)
            .and_then(|view| lower(function[id].kind, &mut Node { graph: self, id }, &view))
            .map_err(|error| error.at(place(function, id)))?;
        for (&value, name) in function[id].outputs.iter().zip(made) {
            let name = self.named(value, name, start);
            self.bind(value, name);
        }
        Ok(())
    }

    /// Gives a value that was just made its own name.
    fn named(&mut self, value: milwright_mil::ValueId, made: String, start: usize) -> String {
        let function = self.function;
        let wanted = &function[value].name;
        if !self.nodes[start..].iter().any(|n| n.output.contains(&made)) {
            return made;
        }
        let is_output = self.depth == 0 && function[function.body].outputs.contains(&value);
        let wanted = if is_output { wanted.clone() } else { self.fresh(wanted) };
        for node in &mut self.nodes[start..] {
            for name in node.output.iter_mut().chain(&mut node.input).filter(|n| **n == made) {
                name.clone_from(&wanted);
            }
        }
        wanted
    }
}

/// How an op becomes nodes.
trait Lower: OpDef {
    /// Appends the nodes and returns the names of the outputs.
    fn lower(n: &mut Node<'_, '_>, p: &Self::Params<'_>) -> Result<Vec<String>>;
}

macro_rules! dispatch {
    ($($op:ident $name:literal $family:ident::$module:ident,)*) => {
        fn lower(kind: OpKind, n: &mut Node<'_, '_>, view: &OpView<'_>) -> Result<Vec<String>> {
            match kind {
                $(OpKind::$op => {
                    type Def = milwright_mil::ops::defs::$op;
                    let p = <Def as OpDef>::params(view).map_err(broken)?;
                    <Def as Lower>::lower(n, &p)
                })*
                other => Err(Error::unsupported(format!("the op `{}`", other.name()))),
            }
        }
    };
}

for_each_op!(dispatch);

/// Implements [`Lower`] for ops, each with a function of the node and the parameters.
macro_rules! implement {
    ($($op:ident: |$n:ident, $p:ident| $body:expr;)*) => {
        $(impl $crate::to_onnx::Lower for milwright_mil::ops::defs::$op {
            fn lower(
                $n: &mut $crate::to_onnx::graph::Node<'_, '_>,
                $p: &<milwright_mil::ops::defs::$op as milwright_mil::ops::OpDef>::Params<'_>,
            ) -> $crate::to_onnx::graph::Result<Vec<String>> {
                $body
            }
        })*
    };
}

/// Says why ops have no counterpart.
macro_rules! refuse {
    ($($op:ident: $why:literal;)*) => {
        $(impl $crate::to_onnx::Lower for milwright_mil::ops::defs::$op {
            fn lower(
                _: &mut $crate::to_onnx::graph::Node<'_, '_>,
                _: &<milwright_mil::ops::defs::$op as milwright_mil::ops::OpDef>::Params<'_>,
            ) -> $crate::to_onnx::graph::Result<Vec<String>> {
                Err($crate::Error::unsupported(concat!("ONNX has no counterpart: ", $why)))
            }
        })*
    };
}

use {implement, refuse};
