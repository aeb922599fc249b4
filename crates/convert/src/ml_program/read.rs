//! Converts protobuf messages to IR.

use std::collections::{BTreeMap, HashMap};

use milwright_formats::Package;
use milwright_formats::proto::{mil_spec as pb, model};
use milwright_mil::{Arg, Attributes, BlockId, Function, Input, OpId, OpKind, Opset, Program, ValueId};

use super::compiled::read_text;
use super::types::read_type;
use super::values::read_value;
use crate::Error;

/// Reads the ML program of a model. Weights are shared with the package's files, not copied.
///
/// # Errors
/// The model is not an ML program, is malformed, or uses an unknown op or form. The error names the function and the
/// op.
pub fn read(package: &Package) -> Result<Program, Error> {
    if let Some(text) = package.program_text() {
        return read_text(text, package);
    }
    let Some(model::Type::MlProgram(program)) = &package.model().r#type else {
        return Err(Error::unsupported("the model is not an ML program")
            .with_hint("only ML programs (mlProgram, specification version 6 and later) run so far"));
    };
    refuse_unknown_ops(program)?;
    let mut functions = indexmap::IndexMap::new();
    for (name, function) in &program.functions {
        let function =
            read_function(function, package).map_err(|e| e.at(format_args!("function `{name}`")))?;
        functions.insert(name.clone(), function);
    }
    let attributes = read_attributes(&program.attributes, package)?;
    Ok(Program { functions, attributes })
}

/// Reports every unknown op in one error, so that a user need not find them one by one.
fn refuse_unknown_ops(program: &pb::Program) -> Result<(), Error> {
    /// Collects the first use of each, named by the op's output.
    fn collect<'a>(
        block: &'a pb::Block,
        function: &'a str,
        names: &mut BTreeMap<&'a str, (&'a str, &'a str)>,
    ) {
        for op in &block.operations {
            if OpKind::from_name(&op.r#type).is_none() {
                let output = op.outputs.first().map_or("", |o| &o.name);
                names.entry(&op.r#type).or_insert((function, output));
            }
            op.blocks.iter().for_each(|b| collect(b, function, names));
        }
    }
    let mut names = BTreeMap::new();
    for (name, function) in &program.functions {
        function.block_specializations.values().for_each(|b| collect(b, name, &mut names));
    }
    if names.is_empty() {
        return Ok(());
    }
    let describe = |(op, (function, output)): (&&str, &(&str, &str))| {
        format!("`{op}` (function `{function}`, output `{output}`)")
    };
    let quoted: Vec<String> = names.iter().take(20).map(describe).collect();
    let more = if names.len() > 20 { format!(" and {} more", names.len() - 20) } else { String::new() };
    let custom = names.contains_key("custom_layer");
    Err(Error::unsupported(format!("unknown ops: {}{more}", quoted.join(", "))).with_hint(if custom {
        "a custom layer is code of the app that the model was made for: replace it with ops of MIL"
    } else {
        "docs/support.md lists the known ops; convert the model without this one"
    }))
}

fn read_function(function: &pb::Function, package: &Package) -> Result<Function, Error> {
    let opset = Opset::from_name(&function.opset)
        .ok_or_else(|| Error::unsupported(format!("unknown opset `{}`", function.opset)))?;
    let blocks = &function.block_specializations;
    let body = blocks
        .get(&function.opset)
        .ok_or_else(|| Error::malformed(format!("there is no block for the opset `{}`", function.opset)))?;
    if blocks.len() > 1 {
        return Err(Error::unsupported("blocks for several opsets")
            .with_hint("convert the model again for one deployment target"));
    }
    let mut reader =
        Reader { package, function: Function::new(opset), scope: HashMap::new(), shadowed: Vec::new() };
    reader.function.attributes = read_attributes(&function.attributes, package)?;
    for input in &function.inputs {
        let ty =
            read_type(input.r#type.as_ref()).map_err(|e| e.at(format_args!("input `{}`", input.name)))?;
        let value = reader.function.add_input(&input.name, ty);
        reader.define(&input.name, value)?;
    }
    let root = reader.function.body;
    reader.fill_block(root, body)?;
    Ok(reader.function)
}

struct Reader<'a> {
    package: &'a Package,
    function: Function,
    /// The values that names refer to at this point.
    scope: HashMap<String, ValueId>,
    /// The names defined so far, so that they can be removed at the end of their block.
    shadowed: Vec<String>,
}

// Recursion over blocks is bounded: the decoder refuses messages that are nested too deeply.
impl Reader<'_> {
    fn define(&mut self, name: &str, value: ValueId) -> Result<(), Error> {
        if self.scope.insert(name.to_owned(), value).is_some() {
            return Err(Error::malformed(format!("the value `{name}` is defined twice")));
        }
        self.shadowed.push(name.to_owned());
        Ok(())
    }

    fn resolve(&self, name: &str) -> Result<ValueId, Error> {
        let found = self.scope.get(name).copied();
        found.ok_or_else(|| Error::malformed(format!("the value `{name}` is used but not defined before")))
    }

    fn fill_block(&mut self, id: BlockId, block: &pb::Block) -> Result<(), Error> {
        let outer = self.shadowed.len();
        for input in &block.inputs {
            let value = self.function.add_block_input(id, &input.name, read_type(input.r#type.as_ref())?);
            self.define(&input.name, value)?;
        }
        for op in &block.operations {
            let op_id = self.read_op(op).map_err(|e| e.at(describe(op)))?;
            self.function[id].ops.push(op_id);
        }
        let outputs = block.outputs.iter().map(|name| self.resolve(name)).collect::<Result<_, _>>();
        self.function[id].outputs = outputs.map_err(|e| e.at("block outputs"))?;
        self.function[id].attributes = read_attributes(&block.attributes, self.package)?;
        for name in self.shadowed.drain(outer..) {
            self.scope.remove(&name);
        }
        Ok(())
    }

    fn read_op(&mut self, op: &pb::Operation) -> Result<OpId, Error> {
        let kind = OpKind::from_name(&op.r#type).expect("unknown ops were refused before");
        let mut inputs = Vec::with_capacity(op.inputs.len());
        for (name, argument) in &op.inputs {
            let args = argument.arguments.iter().map(|b| self.read_binding(b)).collect::<Result<_, _>>();
            let args = args.map_err(|e| e.at(format_args!("input `{name}`")))?;
            inputs.push(Input { name: name.clone(), args });
        }
        let mut attributes = read_attributes(&op.attributes, self.package)?;
        if kind.is_constexpr() {
            attributes.retain(|name, value| {
                let is_param = name != "name";
                if is_param {
                    inputs.push(Input::constant(name.clone(), value.clone()));
                }
                !is_param
            });
        }
        // Nested blocks can use the outer values, but not this op's outputs.
        let mut blocks = Vec::with_capacity(op.blocks.len());
        for block in &op.blocks {
            let id = self.function.add_block();
            self.fill_block(id, block)?;
            blocks.push(id);
        }
        let mut outputs = Vec::with_capacity(op.outputs.len());
        for output in &op.outputs {
            let ty = read_type(output.r#type.as_ref())
                .map_err(|e| e.at(format_args!("output `{}`", output.name)))?;
            outputs.push((output.name.clone(), ty));
        }
        let id = self.function.make_op(kind, inputs, outputs);
        self.function[id].attributes = attributes;
        self.function[id].blocks = blocks;
        for (output, value) in op.outputs.iter().zip(self.function[id].outputs.clone()) {
            self.define(&output.name, value)?;
        }
        Ok(id)
    }

    fn read_binding(&self, binding: &pb::argument::Binding) -> Result<Arg, Error> {
        match &binding.binding {
            Some(pb::argument::binding::Binding::Name(name)) => self.resolve(name).map(Arg::Value),
            Some(pb::argument::binding::Binding::Value(value)) => {
                read_value(value, self.package).map(Arg::Const)
            }
            None => Err(Error::malformed("nothing is bound")),
        }
    }
}

fn read_attributes<'a>(
    attributes: impl IntoIterator<Item = (&'a String, &'a pb::Value)>,
    package: &Package,
) -> Result<Attributes, Error> {
    let read = |(name, value): (&String, &pb::Value)| {
        let value = read_value(value, package).map_err(|e| e.at(format_args!("attribute `{name}`")))?;
        Ok((name.clone(), value))
    };
    attributes.into_iter().map(read).collect()
}

/// Describes an op for errors: its kind, and its name or that of its first output.
fn describe(op: &pb::Operation) -> String {
    use pb::tensor_value::Value as Data;
    use pb::value::immediate_value::Value as Immediate;
    let name = op.attributes.get("name").and_then(|v| match &v.value {
        Some(pb::value::Value::ImmediateValue(i)) => match &i.value {
            Some(Immediate::Tensor(t)) => match &t.value {
                Some(Data::Strings(s)) => s.values.first().cloned(),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    let name = name.or_else(|| op.outputs.first().map(|o| o.name.clone())).unwrap_or_default();
    format!("op `{}` ({name})", op.r#type)
}
