//! The number of dimensions of inputs whose files do not declare it, from the nodes that use them.

use std::collections::HashSet;

use milwright_formats::onnx::proto::{GraphProto, NodeProto};

/// Ops whose result has as many dimensions as their first input.
const KEEP: [&str; 16] = [
    "Abs",
    "BatchNormalization",
    "Cast",
    "Clip",
    "DequantizeLinear",
    "Dropout",
    "Exp",
    "Identity",
    "LeakyRelu",
    "Log",
    "Neg",
    "QuantizeLinear",
    "Relu",
    "Sigmoid",
    "Sqrt",
    "Tanh",
];

/// How many dimensions an input has: those that a node takes which uses it, or what an op makes of it that keeps their
/// number. `None` if no node tells.
pub(super) fn of_input(graph: &GraphProto, name: &str) -> Option<usize> {
    let (mut open, mut seen) = (vec![name], HashSet::new());
    while let Some(name) = open.pop() {
        if !seen.insert(name) {
            continue;
        }
        for node in &graph.node {
            for i in (0..node.input.len()).filter(|&i| node.input[i] == name) {
                if let Some(rank) = wanted(graph, node, i) {
                    return Some(rank);
                }
                if keeps(graph, node, i) {
                    open.extend(node.output.first().map(String::as_str));
                }
            }
        }
    }
    None
}

/// The number of dimensions that a node takes as its input `i`.
fn wanted(graph: &GraphProto, node: &NodeProto, i: usize) -> Option<usize> {
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name() == name).map(|a| a.ints.len());
    let window = || attribute("kernel_shape").map(|sizes| sizes + 2);
    match (node.op_type(), i) {
        ("Conv" | "ConvTranspose" | "ConvInteger", 0) => {
            constant(graph, node, 1).map(<[i64]>::len).or_else(window)
        }
        ("QLinearConv", 0) => constant(graph, node, 3).map(<[i64]>::len).or_else(window),
        ("MaxPool" | "AveragePool" | "LpPool", 0) => window(),
        ("Gemm", 0 | 1) => Some(2),
        ("GRU" | "LSTM" | "RNN", 0) => Some(3),
        ("DepthToSpace" | "SpaceToDepth", 0) => Some(4),
        ("Transpose", 0) => attribute("perm"),
        ("Tile", 0) => constant(graph, node, 1).and_then(|sizes| usize::try_from(*sizes.first()?).ok()),
        ("LinearClassifier" | "LinearRegressor" | "Normalizer" | "SVMClassifier" | "SVMRegressor", 0) => {
            Some(2)
        }
        ("TreeEnsemble" | "TreeEnsembleClassifier" | "TreeEnsembleRegressor", 0) => Some(2),
        _ => None,
    }
}

/// Whether the first result has as many dimensions as the input `i`.
fn keeps(graph: &GraphProto, node: &NodeProto, i: usize) -> bool {
    match node.op_type() {
        // A scalar or a vector beside it does not add any.
        "Add" | "Div" | "Mul" | "Sub" => {
            constant(graph, node, 1 - i.min(1)).is_some_and(|sizes| sizes.len() <= 1)
        }
        op => i == 0 && KEEP.contains(&op),
    }
}

/// The sizes of an input that is an initializer.
fn constant<'g>(graph: &'g GraphProto, node: &NodeProto, i: usize) -> Option<&'g [i64]> {
    let name = node.input.get(i)?;
    graph.initializer.iter().find(|t| t.name() == name).map(|t| &t.dims[..])
}
