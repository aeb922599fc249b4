//! Control flow: graphs inside nodes.

use std::collections::HashSet;

use milwright_spec::onnx::proto::GraphProto;

use super::graph::Importer;
use super::item::Item;
use crate::Error;
use crate::lower::Result;

/// Lowers a graph inside the present one, whose names it sees. Returns what its outputs refer to.
pub(super) fn subgraph<'m>(
    importer: &mut Importer<'m>,
    graph: &'m GraphProto,
    inputs: Vec<Item>,
) -> Result<Vec<Item>> {
    if inputs.len() != graph.input.len() {
        let (found, wanted) = (inputs.len(), graph.input.len());
        return Err(Error::malformed(format!("its graph takes {wanted} inputs, not {found}")));
    }
    let mark = importer.scope.mark();
    let label = importer.label.clone();
    let faults = importer.faults.count();
    let given: HashSet<&str> = graph.input.iter().map(|i| i.name()).collect();
    importer.define_initializers(graph, &given);
    for (input, item) in graph.input.iter().zip(inputs) {
        importer.scope.define(input.name(), item);
    }
    let names: Vec<&str> = graph.output.iter().map(|o| o.name()).collect();
    let lowered = importer.lower(&graph.node, &names);
    let found: Option<Vec<Item>> = names.iter().map(|&name| importer.scope.get(name).cloned()).collect();
    importer.scope.undo(mark);
    importer.label = label;
    lowered?;
    if importer.faults.count() > faults {
        return Err(Error::unsupported("nodes of its graph cannot be run: see the errors before"));
    }
    found.ok_or_else(|| Error::malformed("its graph does not define one of its outputs"))
}
