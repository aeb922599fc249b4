//! Control flow: graphs inside nodes, and the choice between two of them.

use std::collections::HashSet;
use std::rc::Rc;

use milwright_formats::onnx::proto::GraphProto;
use milwright_mil::{BlockId, Dim, Input, OpKind, TensorType, ValueId, param};

use super::graph::Importer;
use super::item::{Item, Val};
use super::node::Node;
use crate::Error;
use crate::lower::{Result, op};

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
    let found: Vec<Option<Item>> = names.iter().map(|&name| importer.scope.get(name).cloned()).collect();
    importer.scope.undo(mark);
    importer.label = label;
    lowered?;
    if importer.faults.count() > faults {
        return Err(Error::unsupported("nodes of its graph cannot be run: see the errors before this one"));
    }
    let undefined =
        |i: usize| Error::malformed(format!("its graph does not define its output `{}`", names[i]));
    found.into_iter().enumerate().map(|(i, item)| item.ok_or_else(|| undefined(i))).collect()
}

/// `If`. A condition that is known at import chooses its branch for good.
pub(super) fn branch(n: &mut Node<'_, '_>) -> Result<Vec<Item>> {
    let graphs = [n.graph("then_branch")?, n.graph("else_branch")?];
    if let Some(known) = n.known(0) {
        let is_true = known.to_f64().first().is_some_and(|&x| x != 0.0);
        return subgraph(n, graphs[usize::from(!is_true)], Vec::new());
    }
    let condition = n.value(0)?;
    if let Some(squeezing) = squeezing(&graphs).filter(|_| tests_size(n, condition)) {
        let label = n.label.clone();
        n.note(format!(
            "`{label}` drops a dimension only if its size is 1: it is taken for 1, and a run with another size is an error"
        ));
        let late = std::mem::replace(&mut n.squeezes_late, true);
        let items = subgraph(n, graphs[squeezing], Vec::new());
        n.squeezes_late = late;
        return items;
    }
    let condition = n.bool_of(condition)?;
    let condition = n.scalar(condition)?;
    let mut blocks = Vec::with_capacity(2);
    let mut found = Vec::with_capacity(2);
    for graph in graphs {
        let (block, outer) = n.builder.enter();
        let items = subgraph(n, graph, Vec::new());
        n.builder.leave(outer, Vec::new());
        blocks.push(block);
        found.push(items?);
    }
    let (Some(no), Some(yes)) = (found.pop(), found.pop()) else { unreachable!("there are two branches") };
    if yes.len() != no.len() {
        return Err(Error::malformed("its branches have different numbers of outputs"));
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    yes.iter().for_each(|item| tensors(item, &mut a));
    no.iter().for_each(|item| tensors(item, &mut b));
    if !yes.iter().zip(&no).all(|(a, b)| same_form(a, b)) {
        return Err(Error::unsupported("its branches give sequences or optionals of different form")
            .with_hint("let both branches give tensors, or sequences of equal length"));
    }
    let outputs = joined(n, condition, [&a, &b], &blocks)?;
    for (&block, outputs) in blocks.iter().zip(outputs) {
        n.builder.set_outputs(block, outputs);
    }
    let inputs = vec![Input::value(param!(Cond.pred), condition)];
    let results = n.ops_with_blocks(OpKind::Cond, inputs, blocks)?;
    let mut results = a.iter().zip(results).map(|(val, value)| Val::new(val.elem, value));
    yes.iter().map(|item| rebuilt(item, &mut results)).collect()
}

/// The branch that squeezes a value, if the other gives the same value as it is: an exporter's form of a squeeze that
/// leaves dimensions of other sizes. The two have different numbers of dimensions.
fn squeezing(graphs: &[&GraphProto; 2]) -> Option<usize> {
    let squeezed = |graph: &GraphProto| -> Option<String> {
        let node = graph.node.iter().find(|node| node.op_type() == "Squeeze")?;
        let only = graph.node.iter().all(|other| other.op_type() == "Constant" || std::ptr::eq(other, node));
        let given = graph.output.len() == 1
            && node.output.first().map(String::as_str) == Some(graph.output[0].name());
        if only && given { node.input.first().cloned() } else { None }
    };
    let kept = |graph: &GraphProto| -> Option<String> {
        let [output] = &graph.output[..] else { return None };
        match &graph.node[..] {
            [] => Some(output.name().to_owned()),
            [node]
                if node.op_type() == "Identity"
                    && node.output.first().is_some_and(|o| o == output.name()) =>
            {
                node.input.first().cloned()
            }
            _ => None,
        }
    };
    (0..2).find(|&i| squeezed(graphs[i]).is_some_and(|name| kept(graphs[1 - i]) == Some(name)))
}

/// Whether a condition is that a size is 1.
fn tests_size(n: &Node<'_, '_>, condition: ValueId) -> bool {
    let first = |value: ValueId, name: &str| {
        let inputs = &n.builder.defining_op(value)?.inputs;
        match inputs.iter().find(|i| i.name == name)?.args.first()? {
            milwright_mil::Arg::Value(value) => Some(*value),
            milwright_mil::Arg::Const(_) => None,
        }
    };
    let kind = |value: ValueId| n.builder.defining_op(value).map(|op| op.kind);
    // Through ops that only change the form of one number.
    let source = |mut value: ValueId| {
        use OpKind::{Cast, ExpandDims, Gather, Identity, Reshape, SliceByIndex, Squeeze};
        for _ in 0..8 {
            match kind(value) {
                Some(Cast | ExpandDims | Gather | Identity | Reshape | SliceByIndex | Squeeze) => {
                    match first(value, "x") {
                        Some(x) => value = x,
                        None => break,
                    }
                }
                _ => break,
            }
        }
        value
    };
    let equal = source(condition);
    if kind(equal) != Some(OpKind::Equal) {
        return false;
    }
    let sides = [first(equal, "x"), first(equal, "y")];
    let is_size = |value: Option<ValueId>| value.is_some_and(|v| kind(source(v)) == Some(OpKind::Shape));
    let is_one = |value: Option<ValueId>| value.is_none_or(|v| n.known_number(v) == Some(1.0));
    (is_size(sides[0]) && is_one(sides[1])) || (is_size(sides[1]) && is_one(sides[0]))
}

/// Gives the results of both branches types that agree. Returns the outputs of both blocks.
fn joined(
    n: &mut Node<'_, '_>,
    condition: ValueId,
    vals: [&[Val]; 2],
    blocks: &[BlockId],
) -> Result<[Vec<ValueId>; 2]> {
    let mut outputs: [Vec<ValueId>; 2] = Default::default();
    for (i, (a, b)) in vals[0].iter().zip(vals[1]).enumerate() {
        let values = [n.value_of(a)?, n.value_of(b)?];
        let types = [n.ty(values[0])?.clone(), n.ty(values[1])?.clone()];
        if types[0].rank() != types[1].rank() {
            return Err(Error::unsupported(format!(
                "its output {i} has {} dimensions in one branch, {} in the other",
                types[0].rank(),
                types[1].rank()
            ))
            .with_hint("bind sizes until the condition is known at import, with `--size NAME=N`, or freeze the input that it depends on"));
        }
        let dtype = types[0].dtype;
        let differ = types[0].shape.iter().zip(&types[1].shape).any(|(a, b)| !a.agrees(*b));
        let shape = if differ { Some(chosen_shape(n, condition, values)?) } else { None };
        for (side, value) in values.into_iter().enumerate() {
            let outer = n.builder.resume(blocks[side]);
            let cast = n.cast(value, dtype);
            let shaped = match (cast, shape) {
                (Ok(value), Some(shape)) => op!(n, Reshape, x = value, shape = shape),
                // An output may not be a value of the outer block or an input of its own.
                (Ok(value), None) => op!(n, Identity, x = value),
                (error, _) => error,
            };
            n.builder.resume(outer);
            outputs[side].push(shaped?);
        }
    }
    Ok(outputs)
}

/// The shape of the branch that will run, as a vector that only a run knows: types of known sizes that differ would
/// not agree.
fn chosen_shape(n: &mut Node<'_, '_>, condition: ValueId, values: [ValueId; 2]) -> Result<ValueId> {
    let mut shapes = Vec::with_capacity(2);
    for value in values {
        let known: Option<Vec<i32>> =
            n.ty(value)?.shape.iter().map(|d| d.fixed().and_then(|n| n.try_into().ok())).collect();
        let known = known.ok_or_else(|| {
            Error::unsupported("its branches give shapes that differ, of which one is not known")
                .with_hint("bind that size: `--size NAME=N`")
        })?;
        shapes.push(n.int_vector(&known));
    }
    op!(n, Select, cond = condition, a = shapes[0], b = shapes[1])
}

/// Collects the tensors of which an item consists.
pub(super) fn tensors(item: &Item, vals: &mut Vec<Val>) {
    match item {
        Item::Tensor(val) => vals.push(val.clone()),
        Item::Sequence(items) => items.iter().for_each(|item| tensors(item, vals)),
        Item::Optional(inner) => inner.iter().for_each(|item| tensors(item, vals)),
    }
}

/// Whether two items consist of equally many tensors in the same order.
fn same_form(a: &Item, b: &Item) -> bool {
    match (a, b) {
        (Item::Tensor(_), Item::Tensor(_)) | (Item::Optional(None), Item::Optional(None)) => true,
        (Item::Sequence(a), Item::Sequence(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same_form(a, b))
        }
        (Item::Optional(Some(a)), Item::Optional(Some(b))) => same_form(a, b),
        _ => false,
    }
}

/// An item of the same form as another one, of other tensors.
pub(super) fn rebuilt(form: &Item, vals: &mut dyn Iterator<Item = Val>) -> Result<Item> {
    Ok(match form {
        Item::Tensor(_) => Item::Tensor(vals.next().ok_or_else(|| Error::malformed("a result is missing"))?),
        Item::Sequence(items) => {
            Item::Sequence(items.iter().map(|item| rebuilt(item, vals)).collect::<Result<Vec<_>>>()?.into())
        }
        Item::Optional(None) => Item::Optional(None),
        Item::Optional(Some(inner)) => Item::Optional(Some(Rc::new(rebuilt(inner, vals)?))),
    })
}

/// Makes sizes of a type unknown where they differ from another type's.
pub(super) fn open(ty: &mut TensorType, other: &TensorType, all: bool) -> Result<()> {
    if ty.rank() != other.rank() {
        let (a, b) = (ty.rank(), other.rank());
        return Err(Error::unsupported(format!("a tensor of {a} dimensions has {b} after an iteration of the loop"))
            .with_hint("a loop's tensors keep their number of dimensions: export the model with another form of the loop"));
    }
    for (size, other) in ty.shape.iter_mut().zip(&other.shape) {
        if all || size != other {
            *size = Dim::Unknown;
        }
    }
    Ok(())
}
