//! The importer: lowers the nodes of a graph in order, and knows what its names refer to.

use std::collections::{HashMap, HashSet};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use milwright_formats::onnx::OnnxFile;
use milwright_formats::onnx::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use milwright_mil::{Opset, Tensor, ValueId};

use super::coded::Coded;
use super::elem::Elem;
use super::item::{Item, Source, Val};
use super::node::{Named, Node};
use super::stored::Stored;
use super::table::{self, Entry, How};
use super::{control, order};
use crate::Error;
use crate::lower::{Faults, Lowering, Result, Scope};

/// The most nodes that are lowered: those of unrolled loops and inlined functions count each time.
const MAX_LOWERED: usize = 1 << 18;
/// Attributes that repeat what the inputs say, or that matter in training only.
const HARMLESS: [&str; 3] = ["kernel_shape", "stash_type", "consumed_inputs"];
/// How deep functions call each other.
const MAX_CALLS: usize = 32;

/// A function under construction, and what the names of the graph refer to at this point.
pub(super) struct Importer<'m> {
    lowering: Lowering,
    pub file: &'m OnnxFile,
    pub scope: Scope<Item>,
    /// Names that nodes would have defined if they could be lowered.
    pub faulty: HashSet<String>,
    /// The errors of nodes that could not be lowered.
    pub faults: Faults,
    /// Sentences for the user: what the import had to assume or to leave out.
    pub notes: Vec<String>,
    /// The newest opset that a node asked for.
    pub wanted: Option<Opset>,
    /// Whether a squeezed dimension of unknown size is checked only when the op runs: in a branch that may not run, its
    /// size may be anything.
    pub squeezes_late: bool,
    /// The graph or function whose nodes are being lowered.
    pub frame: Frame<'m>,
    functions: Functions<'m>,
    lowered: usize,
    calls: usize,
    /// Constants that stay quantized, by their values.
    pub coded: HashMap<ValueId, Rc<Coded>>,
    /// How many nodes of each op were lowered, by `domain.name`.
    pub counts: std::collections::BTreeMap<String, usize>,
}

/// The functions of the model by domain, name and overload.
type Functions<'m> = HashMap<(&'m str, &'m str, &'m str), &'m FunctionProto>;

/// What nodes of one graph, or of one function's body, have in common.
#[derive(Clone, Default)]
pub(super) struct Frame<'m> {
    /// The version of each domain.
    pub opsets: HashMap<&'m str, u32>,
    /// The attributes of the call, for a function's body.
    pub attributes: Vec<Named<'m>>,
}

impl<'m> Importer<'m> {
    /// An importer for the model of a file, before anything is lowered.
    ///
    /// # Errors
    /// The model imports a version of a domain that is newer than the table knows.
    pub fn new(file: &'m OnnxFile, opset: Opset) -> Result<Importer<'m>> {
        let model = file.model();
        let opsets =
            opsets(model.opset_import.iter().map(|o| (o.domain(), o.version())), model.ir_version())?;
        let functions: Functions<'m> = model
            .functions
            .iter()
            .map(|f| ((table::domain(f.domain()), f.name(), f.overload()), f))
            .collect();
        let graph = model.graph.as_deref().map_or(&[][..], |graph| &graph.node);
        if expanded(graph, &functions, &mut HashMap::new(), 0) > MAX_LOWERED {
            return Err(too_many());
        }
        Ok(Importer {
            lowering: Lowering::new(opset),
            file,
            scope: Scope::default(),
            faulty: HashSet::new(),
            faults: Faults::default(),
            notes: Vec::new(),
            wanted: None,
            squeezes_late: false,
            frame: Frame { opsets, attributes: Vec::new() },
            functions,
            lowered: 0,
            calls: 0,
            coded: HashMap::new(),
            counts: Default::default(),
        })
    }

    /// Asks for an opset.
    pub fn want(&mut self, opset: Opset) {
        self.wanted = self.wanted.max(Some(opset));
    }

    /// Whether the program has an opset; if not, and the user did not choose the opset, asks for it, so that the model
    /// is lowered again for that one. For forms that are much better than what older opsets can say.
    pub fn prefers(&mut self, opset: Opset) -> bool {
        if self.builder.opset() < opset {
            self.want(opset);
        }
        self.builder.opset() >= opset
    }

    /// Adds a sentence for the user, once.
    pub fn note(&mut self, sentence: impl Into<String>) {
        let sentence = sentence.into();
        if !self.notes.contains(&sentence) {
            self.notes.push(sentence);
        }
    }

    /// Returns the finished function, with these outputs.
    pub fn finish(self, outputs: Vec<ValueId>) -> milwright_mil::Function {
        self.lowering.builder.finish(outputs)
    }

    /// Defines the initializers of a graph, except those whose names are `given` otherwise.
    pub fn define_initializers(&mut self, graph: &'m GraphProto, given: &HashSet<&str>) {
        for proto in graph.initializer.iter().filter(|t| !given.contains(t.name())) {
            match Stored::read(self.file, proto) {
                Ok(stored) => self.scope.define(proto.name(), Val::constant(proto.name(), stored).into()),
                Err(error) => {
                    self.fault(error.at(format_args!("initializer `{}`", proto.name())), [proto.name()])
                }
            }
        }
        for proto in &graph.sparse_initializer {
            let name = proto.values.as_ref().map_or("", |values| values.name());
            match Stored::read_sparse(self.file, proto) {
                Ok(stored) => self.scope.define(name, Val::constant(name, stored).into()),
                Err(error) => self.fault(error.at(format_args!("initializer `{name}`")), [name]),
            }
        }
    }

    fn fault<'s>(&mut self, error: Error, names: impl IntoIterator<Item = &'s str>) {
        self.faults.add(error);
        self.faulty.extend(names.into_iter().filter(|n| !n.is_empty()).map(str::to_owned));
    }

    /// Lowers nodes, in an order in which each comes after those that it needs. Leaves out nodes that `results` do not
    /// need. Records nodes that cannot be lowered, and skips those that need their results.
    pub fn lower(&mut self, nodes: &'m [NodeProto], results: &[&'m str]) -> Result<()> {
        for node in order::sorted(nodes, results)? {
            let is_faulty = order::inputs(node)
                .into_iter()
                .any(|name| self.faulty.contains(name) && !self.scope.contains(name));
            let outputs = node.output.iter().map(String::as_str);
            if is_faulty {
                self.faulty.extend(node.output.iter().filter(|n| !n.is_empty()).cloned());
            } else if let Err(error) = self.lower_node(node) {
                self.fault(error.at(place(node)), outputs);
            }
        }
        Ok(())
    }

    fn lower_node(&mut self, node: &'m NodeProto) -> Result<()> {
        self.lowered += 1;
        if self.lowered > MAX_LOWERED {
            return Err(too_many());
        }
        let domain = table::domain(node.domain());
        let inputs = self.resolve(node)?;
        let attributes = self.attributes(node);
        self.label =
            node.output.iter().find(|n| !n.is_empty()).map_or(node.op_type(), String::as_str).to_owned();
        if let Some(&function) = self.functions.get(&(domain, node.op_type(), node.overload())) {
            return self.call(function, node, inputs, attributes);
        }
        let entry = table::find(domain, node.op_type()).ok_or_else(|| unknown(domain, node.op_type()))?;
        let opset = self.opset_of(domain, node.op_type())?;
        *self.counts.entry(entry.label()).or_default() += 1;
        let lower = match entry.how {
            How::Lower(lower) => lower,
            How::Refuse { reason, remedy } => return Err(Error::unsupported(reason).with_hint(remedy)),
        };
        if opset < entry.since {
            let since = entry.since;
            return Err(Error::malformed(format!(
                "it exists since opset {since}, but the model imports {opset}"
            )));
        }
        let mut context = Node::new(self, node, opset, inputs, attributes);
        let results = lower(&mut context)?;
        for name in context.unread_attributes() {
            if !HARMLESS.contains(&name) {
                self.note(format!("the attribute `{name}` of {} is not used", entry.label()));
            }
        }
        self.define(node, results)
    }

    /// Makes the names of a node's outputs refer to its results.
    fn define(&mut self, node: &'m NodeProto, results: Vec<Item>) -> Result<()> {
        let wanted = node.output.iter().rposition(|name| !name.is_empty()).map_or(0, |i| i + 1);
        if results.len() < wanted {
            let found = results.len();
            return Err(Error::unsupported(format!(
                "its output {found} is used, but only {found} are known"
            )));
        }
        for (name, item) in node.output.iter().zip(results).filter(|(name, _)| !name.is_empty()) {
            self.faulty.remove(name);
            self.scope.define(name, item);
        }
        Ok(())
    }

    /// What the inputs of a node refer to.
    fn resolve(&self, node: &NodeProto) -> Result<Vec<Option<Item>>> {
        let resolve = |name: &String| match name.as_str() {
            "" => Ok(None),
            name => {
                let undefined = || Error::malformed(format!("its input `{name}` is not defined"));
                self.scope.get(name).cloned().map(Some).ok_or_else(undefined)
            }
        };
        node.input.iter().map(resolve).collect()
    }

    /// The attributes of a node. A reference stands for an attribute of the function's call, or for none.
    fn attributes(&self, node: &'m NodeProto) -> Vec<Named<'m>> {
        let found = |attribute: &'m AttributeProto| match attribute.ref_attr_name() {
            "" => Some((attribute.name(), attribute)),
            outer => {
                let (_, of_call) = self.frame.attributes.iter().find(|(name, _)| *name == outer)?;
                Some((attribute.name(), *of_call))
            }
        };
        node.attribute.iter().filter_map(found).collect()
    }

    /// The version of a domain that the graph imports.
    pub fn opset_of(&self, domain: &str, op: &str) -> Result<u32> {
        // ONNX Runtime writes ops of its own without importing their domain.
        let default = match domain {
            "" => None,
            _ => Some(1),
        };
        let missing =
            || Error::malformed(format!("the model imports no version of the domain of {op}, `{domain}`"));
        self.frame.opsets.get(domain).copied().or(default).ok_or_else(missing)
    }

    /// Lowers the body of one of the model's functions in place of a call.
    fn call(
        &mut self,
        function: &'m FunctionProto,
        node: &'m NodeProto,
        inputs: Vec<Option<Item>>,
        mut attributes: Vec<Named<'m>>,
    ) -> Result<()> {
        if self.calls >= MAX_CALLS {
            return Err(Error::malformed(format!("functions call each other more than {MAX_CALLS} deep")));
        }
        let defaults = function.attribute_proto.iter().map(|default| (default.name(), default));
        let defaults = defaults.filter(|(name, _)| !attributes.iter().any(|(n, _)| n == name));
        attributes.extend(defaults.collect::<Vec<_>>());
        let opsets = opsets(function.opset_import.iter().map(|o| (o.domain(), o.version())), 14)?;
        let frame = Frame { opsets, attributes };
        let outer_frame = std::mem::replace(&mut self.frame, frame);
        // A body sees nothing of the caller's names.
        let outer_scope = std::mem::take(&mut self.scope);
        let outer_faulty = std::mem::take(&mut self.faulty);
        for (name, item) in function.input.iter().zip(inputs) {
            if let Some(item) = item {
                self.scope.define(name, item);
            }
        }
        self.calls += 1;
        let faults = self.faults.count();
        let results: Vec<&str> = function.output.iter().map(String::as_str).collect();
        // An input that is left out is an empty name inside, too.
        let lowered = self.lower(&function.node, &results);
        self.calls -= 1;
        let scope = std::mem::replace(&mut self.scope, outer_scope);
        self.faulty = outer_faulty;
        self.frame = outer_frame;
        lowered?;
        if self.faults.count() > faults {
            self.faulty.extend(node.output.iter().filter(|n| !n.is_empty()).cloned());
            return Ok(());
        }
        let mut items = Vec::with_capacity(results.len());
        for (i, name) in results.iter().enumerate() {
            match scope.get(*name) {
                Some(item) => items.push(item.clone()),
                None if node.output.get(i).is_none_or(String::is_empty) => break,
                None => return Err(Error::malformed(format!("the function gives no `{name}`"))),
            }
        }
        self.define(node, items)
    }

    /// A tensor as a value of the program. Constants become values outside all blocks.
    pub fn value_of(&mut self, val: &Val) -> Result<ValueId> {
        match &val.source {
            Source::Value(value) => Ok(*value),
            Source::Stored(constant) => {
                if let Some(&value) = constant.value.get() {
                    return Ok(value);
                }
                let tensor = constant.stored.carried()?;
                let value = self.builder.constant_for_all(&constant.name, tensor);
                Ok(*constant.value.get_or_init(|| value))
            }
        }
    }

    /// A tensor's elements in their carrier, if they are known.
    pub fn known_of(&self, val: &Val) -> Option<Tensor> {
        match &val.source {
            Source::Value(value) => self.builder.known(*value).cloned(),
            Source::Stored(constant) => match constant.value.get() {
                Some(&value) => self.builder.known(value).cloned(),
                None => constant.stored.carried().ok(),
            },
        }
    }

    /// A tensor's integers, if they are known, as the file has them.
    pub fn ints_of(&self, val: &Val) -> Option<Vec<i64>> {
        match val.stored() {
            Some(stored) => stored.ints(),
            None => self.known_of(val)?.to_i64(),
        }
    }

    /// A new constant of the program, of the carrier of `elem`.
    pub fn new_constant(&mut self, elem: Elem, tensor: Tensor) -> Val {
        Val::new(elem, self.lowering.constant(tensor))
    }

    /// Lowers a graph inside the present one, whose names it sees, with its inputs bound. Returns what its outputs
    /// refer to. Names defined inside are forgotten.
    pub fn subgraph(&mut self, graph: &'m GraphProto, inputs: Vec<Item>) -> Result<Vec<Item>> {
        control::subgraph(self, graph, inputs)
    }
}

fn too_many() -> Error {
    Error::unsupported("there are too many nodes, with those of functions and unrolled loops")
}

/// How many nodes there are with the bodies of all functions in place of their calls. `known` has those that were counted.
fn expanded<'m>(
    nodes: &'m [NodeProto],
    functions: &Functions<'m>,
    known: &mut HashMap<*const FunctionProto, usize>,
    depth: usize,
) -> usize {
    let mut count = nodes.len();
    for node in nodes {
        for graph in order::graphs(node) {
            count = count.saturating_add(expanded(&graph.node, functions, known, depth));
        }
        let key = (table::domain(node.domain()), node.op_type(), node.overload());
        // Calls that are too deep are an error where they are lowered.
        let Some(&function) = functions.get(&key).filter(|_| depth < MAX_CALLS) else { continue };
        let body = match known.get(&std::ptr::from_ref(function)) {
            Some(&body) => body,
            None => {
                let body = expanded(&function.node, functions, known, depth + 1);
                known.insert(std::ptr::from_ref(function), body);
                body
            }
        };
        count = count.saturating_add(body);
    }
    count
}

/// The versions of domains, checked.
fn opsets<'m>(
    imports: impl Iterator<Item = (&'m str, i64)>,
    ir_version: i64,
) -> Result<HashMap<&'m str, u32>> {
    let mut opsets = HashMap::new();
    for (domain, version) in imports {
        let domain = table::domain(domain);
        let wrong = || Error::malformed(format!("version {version} of the domain `{domain}`"));
        let version = u32::try_from(version).ok().filter(|&v| v > 0).ok_or_else(wrong)?;
        if let Some(newest) = table::newest(domain).filter(|&newest| version > newest) {
            let name = if domain.is_empty() { "ai.onnx" } else { domain };
            return Err(Error::unsupported(format!(
                "the model imports opset {version} of {name}; {newest} is the newest that is known"
            ))
            .with_hint(format!("export the model for opset {newest}, or use onnx.version_converter")));
        }
        opsets.insert(domain, version);
    }
    // Files before IR version 3 import nothing, and mean opset 1.
    if ir_version < 3 {
        opsets.entry("").or_insert(1);
    }
    Ok(opsets)
}

/// Where an error is: the node and its op.
pub(super) fn place(node: &NodeProto) -> String {
    let domain = table::domain(node.domain());
    let op =
        if domain.is_empty() { node.op_type().to_owned() } else { format!("{domain}.{}", node.op_type()) };
    let name = match node.name() {
        "" => node.output.iter().find(|n| !n.is_empty()).map_or("", String::as_str),
        name => name,
    };
    format!("node `{name}` ({op})")
}

fn unknown(domain: &str, op: &str) -> Error {
    let near = milwright_formats::did_you_mean(op, table::names(domain));
    let known_domain = table::newest(domain).is_some();
    let hint = if known_domain {
        format!("{near}docs/onnx.md lists the ops that are known")
    } else {
        "ops of other domains than ai.onnx, ai.onnx.ml and com.microsoft are code of the tool that wrote the model: \
         export the model without them"
            .to_owned()
    };
    let name = if domain.is_empty() { "ai.onnx" } else { domain };
    Error::unsupported(format!("there is no op of this name in the domain {name}")).with_hint(hint)
}

impl Entry {
    /// The name with its domain.
    fn label(&self) -> String {
        if self.domain.is_empty() { self.name.to_owned() } else { format!("{}.{}", self.domain, self.name) }
    }
}

impl Deref for Importer<'_> {
    type Target = Lowering;
    fn deref(&self) -> &Lowering {
        &self.lowering
    }
}

impl DerefMut for Importer<'_> {
    fn deref_mut(&mut self) -> &mut Lowering {
        &mut self.lowering
    }
}
