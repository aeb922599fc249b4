//! Programs, networks and pipelines as plain data for tools that inspect them, without weights and values.

use indexmap::IndexMap;
use milwright_formats::proto::NeuralNetworkLayer;
use milwright_mil::{Arg, BlockId, Dim, Function, OpId, OpKind, ValueId, param};
use serde::Serialize;

use crate::Model;
use crate::kinds::pipeline;

/// The structure of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Structure {
    /// The functions, by name: those of the program, or of the one that a neural network is converted to.
    pub functions: IndexMap<String, FunctionStructure>,
    /// The layers of a neural network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<LayerStructure>>,
    /// The models of a pipeline, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<Vec<(String, Structure)>>,
}

/// A layer of a neural network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerStructure {
    /// The name.
    pub name: String,
    /// The kind, such as `innerProduct`.
    pub kind: String,
    /// The names of its inputs.
    pub inputs: Vec<String>,
    /// The names of its outputs.
    pub outputs: Vec<String>,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionStructure {
    /// The inputs, including states.
    pub inputs: Vec<NamedType>,
    /// Its body.
    pub block: BlockStructure,
}

/// A block: the body of a function, or of a branch or loop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BlockStructure {
    /// The inputs of a loop's block; empty for other blocks.
    pub inputs: Vec<NamedType>,
    /// The ops, in order.
    pub operations: Vec<OperationStructure>,
    /// The names of the outputs.
    pub outputs: Vec<String>,
}

/// An op.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationStructure {
    /// The op's type, such as `conv`.
    pub operator: String,
    /// The names of the values bound to each parameter; `None` for an immediate constant.
    pub inputs: IndexMap<String, Vec<Option<String>>>,
    /// The results.
    pub outputs: Vec<NamedType>,
    /// The nested blocks of control flow.
    pub blocks: Vec<BlockStructure>,
    /// A rough share of the work of the whole function, 0 to 1; 0 for constants.
    pub cost: f64,
}

/// A name with a type in MIL's syntax, such as `tensor<fp16, [1, 4]>`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NamedType {
    /// The name.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub ty: String,
}

impl Structure {
    /// The structure of a model's program.
    ///
    /// ```
    /// # let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    /// use milwright::{Model, Structure};
    ///
    /// let model = Model::open(format!("{root}examples/digits.mlpackage"))?;
    /// let structure = Structure::new(&model);
    /// let operations = &structure.functions["main"].block.operations;
    /// assert!(operations.iter().any(|op| op.operator == "conv"));
    /// # Ok::<(), milwright::Error>(())
    /// ```
    pub fn new(model: &Model) -> Structure {
        let functions = model.program().map(|p| p.functions.iter()).into_iter().flatten();
        let functions = functions.map(|(name, function)| {
            let total: f64 = function.walk().iter().map(|&op| work(function, op)).sum();
            let total = total.max(1.0);
            let inputs = named(function, &function.inputs);
            (name.clone(), FunctionStructure { inputs, block: block(function, function.body, total) })
        });
        let proto = model.specification();
        let layers = milwright_convert::neural_network::layers(proto);
        let names = pipeline(proto).map_or(&[][..], |p| &p.names);
        let part = |(i, part)| (names.get(i).cloned().unwrap_or_default(), Structure::new(part));
        // The decoder bounds how deep pipelines nest.
        let parts = || model.pipeline().iter().map(|m| &**m).enumerate().map(part).collect();
        Structure {
            functions: functions.collect(),
            layers: layers.map(|layers| layers.iter().map(layer).collect()),
            pipeline: pipeline(proto).map(|_| parts()),
        }
    }
}

fn layer(layer: &NeuralNetworkLayer) -> LayerStructure {
    LayerStructure {
        name: layer.name.clone(),
        kind: milwright_convert::neural_network::table::kind(layer).to_owned(),
        inputs: layer.input.clone(),
        outputs: layer.output.clone(),
    }
}

fn block(function: &Function, id: BlockId, total: f64) -> BlockStructure {
    let block = &function[id];
    BlockStructure {
        inputs: named(function, &block.inputs),
        operations: block.ops.iter().map(|&op| operation(function, op, total)).collect(),
        outputs: block.outputs.iter().map(|&v| function[v].name.clone()).collect(),
    }
}

fn operation(function: &Function, id: OpId, total: f64) -> OperationStructure {
    let op = &function[id];
    let bound = |arg: &Arg| match arg {
        Arg::Value(v) => Some(function[*v].name.clone()),
        Arg::Const(_) => None,
    };
    OperationStructure {
        operator: op.kind.name().to_owned(),
        inputs: op.inputs.iter().map(|i| (i.name.clone(), i.args.iter().map(bound).collect())).collect(),
        outputs: named(function, &op.outputs),
        blocks: op.blocks.iter().map(|&b| block(function, b, total)).collect(),
        cost: work(function, id) / total,
    }
}

fn named(function: &Function, values: &[ValueId]) -> Vec<NamedType> {
    let named = |&v: &ValueId| NamedType { name: function[v].name.clone(), ty: function[v].ty.to_string() };
    values.iter().map(named).collect()
}

/// The number of elements that an op writes; for matrix products, times the length of each sum. Nested blocks are
/// counted separately.
fn work(function: &Function, id: OpId) -> f64 {
    let op = &function[id];
    if op.kind == OpKind::Const || op.kind.is_constexpr() {
        return 0.0;
    }
    let elements = |v: ValueId| function[v].ty.as_tensor().and_then(|t| t.elements()).unwrap_or(1) as f64;
    let written: f64 = op.outputs.iter().map(|&v| elements(v)).sum();
    let Some(weight) = op.value(param!(Conv.weight)).or_else(|| op.value(param!(Matmul.y))) else {
        return written;
    };
    let shape = function[weight].ty.as_tensor().map(|t| t.shape.clone()).unwrap_or_default();
    let length = |d: &Dim| if let Dim::Fixed(n) = d { *n as f64 } else { 1.0 };
    match op.kind {
        OpKind::Conv | OpKind::ConvTranspose | OpKind::Linear => {
            written * shape.iter().skip(1).map(length).product::<f64>()
        }
        OpKind::Matmul => written * shape.iter().rev().nth(1).map_or(1.0, length),
        _ => written,
    }
}
