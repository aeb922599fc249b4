//! The printer: turns a program into text.

use std::fmt::Write;

use super::lex::is_identifier;
use super::number::print_float;
use crate::{
    Arg, Attributes, BlockId, DType, Function, Input, Op, OpId, Opset, Program, Tensor, TensorType, Type,
    Value, ValueId,
};

/// How scalars are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextVersion {
    /// `program(1.0)`: as tensors of rank 0, `tensor<fp16, []>(0x1p+1)`.
    V1_0,
    /// `program(1.3)`: as their element type, `fp16(0x1p+1)`.
    #[default]
    V1_3,
}

/// The place of a constant in a weight file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRef {
    /// The path, usually `@model_path/weights/weight.bin`.
    pub path: String,
    /// The offset, in bytes, of the blob's metadata.
    pub offset: u64,
}

type Weights<'w> = dyn FnMut(&Tensor) -> Option<BlobRef> + 'w;

/// Prints programs, deterministically.
#[derive(Default)]
pub struct Printer<'w> {
    version: TextVersion,
    weights: Option<&'w mut Weights<'w>>,
    out: String,
}

/// Prints a program in the newest version of the text form, with all constants in the text.
pub fn print(program: &Program) -> String {
    Printer::new().print(program)
}

/// Prints a constant as [`parse_value`](super::parse_value) reads it.
pub fn print_value(value: &Value) -> String {
    let mut printer = Printer::new();
    printer.value(value);
    printer.out
}

impl<'w> Printer<'w> {
    /// A printer of the newest version.
    pub fn new() -> Printer<'w> {
        Printer::default()
    }

    /// Chooses how scalars are written.
    #[must_use]
    pub fn version(self, version: TextVersion) -> Printer<'w> {
        Printer { version, ..self }
    }

    /// Sets a function that says whether and where a file holds a constant. It is called in order for each constant
    /// tensor, except strings and scalars.
    #[must_use]
    pub fn weights(self, weights: &'w mut Weights<'w>) -> Printer<'w> {
        Printer { weights: Some(weights), ..self }
    }

    /// Returns the text of a program.
    pub fn print(mut self, program: &Program) -> String {
        self.str(match self.version {
            TextVersion::V1_0 => "program(1.0)\n",
            TextVersion::V1_3 => "program(1.3)\n",
        });
        if !program.attributes.is_empty() {
            self.attributes(&program.attributes);
            self.str("\n");
        }
        self.str("{\n");
        for (name, function) in &program.functions {
            self.str("    func ");
            self.name(name);
            self.fmt(format_args!("<{}>", function.opset));
            self.typed_names(function, &function.inputs);
            let body = &function[function.body];
            if !function.attributes.is_empty() || !body.attributes.is_empty() {
                self.str(" ");
                self.attributes(&function.attributes);
            }
            self.block(function, function.body, 1);
            self.str(";\n");
        }
        self.str("}\n");
        self.out
    }

    /// Prints a block from its attributes to its outputs.
    fn block(&mut self, function: &Function, id: BlockId, depth: usize) {
        let block = &function[id];
        if !block.attributes.is_empty() {
            self.str(" ");
            self.attributes(&block.attributes);
        }
        self.str(" {\n");
        for &op in &block.ops {
            self.op(function, op, depth + 1);
        }
        self.indent(depth);
        self.str("} -> (");
        for (i, &output) in block.outputs.iter().enumerate() {
            self.separator(i);
            self.name(&function[output].name);
        }
        self.str(")");
    }

    fn op(&mut self, function: &Function, id: OpId, depth: usize) {
        let op = &function[id];
        self.indent(depth);
        for (i, &output) in op.outputs.iter().enumerate() {
            self.separator(i);
            self.ty(&function[output].ty);
            self.str(" ");
            self.name(&function[output].name);
        }
        if !op.outputs.is_empty() {
            self.str(" = ");
        }
        self.str(op.kind.name());
        self.str("(");
        let as_attributes = params_are_attributes(op, function.opset);
        if !as_attributes {
            for (i, input) in op.inputs.iter().enumerate() {
                self.separator(i);
                self.input(function, op, input);
            }
        }
        self.str(")");
        if as_attributes {
            let mut attributes = op.attributes.clone();
            for input in &op.inputs {
                if let [Arg::Const(value)] = input.args.as_slice() {
                    attributes.insert(input.name.clone(), value.clone());
                }
            }
            self.attributes(&attributes);
        } else if !op.attributes.is_empty() {
            self.attributes(&op.attributes);
        }
        for (i, &block) in op.blocks.iter().enumerate() {
            self.str(if i == 0 { "\n" } else { ",\n" });
            self.indent(depth + 1);
            self.typed_names(function, &function[block].inputs);
            self.block(function, block, depth + 1);
        }
        self.str(";\n");
    }

    fn input(&mut self, function: &Function, op: &Op, input: &Input) {
        self.name(&input.name);
        self.str(" = ");
        let variadic =
            op.kind.version(function.opset).and_then(|v| v.param(&input.name)).is_some_and(|p| p.variadic);
        let list = variadic || input.args.len() != 1;
        self.str(if list { "(" } else { "" });
        for (i, arg) in input.args.iter().enumerate() {
            self.separator(i);
            match arg {
                Arg::Value(v) => self.name(&function[*v].name),
                Arg::Const(c) => self.value(c),
            }
        }
        self.str(if list { ")" } else { "" });
    }

    fn typed_names(&mut self, function: &Function, values: &[ValueId]) {
        self.str("(");
        for (i, &value) in values.iter().enumerate() {
            self.separator(i);
            self.ty(&function[value].ty);
            self.str(" ");
            self.name(&function[value].name);
        }
        self.str(")");
    }

    fn attributes(&mut self, attributes: &Attributes) {
        self.str("[");
        for (i, (name, value)) in attributes.iter().enumerate() {
            self.separator(i);
            self.name(name);
            self.str(" = ");
            self.value(value);
        }
        self.str("]");
    }

    fn value(&mut self, value: &Value) {
        self.ty(&value.ty());
        self.str("(");
        self.literal(value);
        self.str(")");
    }

    fn literal(&mut self, value: &Value) {
        match value {
            Value::Tensor(t) => self.tensor(t),
            Value::List(_, items) => self.sequence('[', items, ']'),
            Value::Tuple(items) => self.sequence('(', items, ')'),
            Value::Dict(_, _, entries) => {
                self.str("{");
                for (i, (key, value)) in entries.iter().enumerate() {
                    self.separator(i);
                    self.str("{");
                    self.literal(key);
                    self.str(", ");
                    self.literal(value);
                    self.str("}");
                }
                self.str("}");
            }
        }
    }

    fn sequence(&mut self, open: char, items: &[Value], close: char) {
        self.out.push(open);
        for (i, item) in items.iter().enumerate() {
            self.separator(i);
            self.literal(item);
        }
        self.out.push(close);
    }

    fn tensor(&mut self, t: &Tensor) {
        if t.dtype() != DType::String
            && !t.shape().is_empty()
            && let Some(blob) = self.weights.as_mut().and_then(|w| w(t))
        {
            self.str("BLOBFILE(path = ");
            self.value(&Value::string(blob.path));
            self.str(", offset = ");
            self.value(&Tensor::scalar(blob.offset).into());
            return self.str(")");
        }
        let elements = Elements::of(t);
        let mut at = 0;
        self.row(t, &elements, t.shape(), &mut at);
    }

    /// Prints the elements from `at` on that fill `shape`, in nested brackets. The rank bounds the recursion.
    fn row(&mut self, t: &Tensor, elements: &Elements, shape: &[usize], at: &mut usize) {
        let Some((&length, inner)) = shape.split_first() else {
            self.element(t, elements, *at);
            *at += 1;
            return;
        };
        self.str("[");
        // If an inner size is 0, a huge outer size would print brackets without end.
        let length = if inner.contains(&0) { length.min(MAX_EMPTY_ROWS) } else { length };
        for i in 0..length {
            self.separator(i);
            self.row(t, elements, inner, at);
        }
        self.str("]");
    }

    fn element(&mut self, t: &Tensor, elements: &Elements, i: usize) {
        match elements {
            Elements::Strings => self.quoted('"', &t.strings()[i]),
            Elements::Bools => self.str(if t.bytes()[i] == 0 { "false" } else { "true" }),
            Elements::Ints(ints) if t.dtype() == DType::UInt64 => {
                self.fmt(format_args!("{}", ints[i] as u64))
            }
            Elements::Ints(ints) => self.fmt(format_args!("{}", ints[i])),
            Elements::Floats => {
                let size = t.dtype().bits() / 8;
                let mut bits = [0; 8];
                bits[..size].copy_from_slice(&t.bytes()[i * size..][..size]);
                print_float(&mut self.out, t.dtype(), u64::from_le_bytes(bits));
            }
        }
    }

    fn ty(&mut self, ty: &Type) {
        match ty {
            Type::Tensor(TensorType { dtype, shape })
                if shape.is_empty() && self.version == TextVersion::V1_3 =>
            {
                self.str(dtype.name());
            }
            Type::Tensor(t) => self.fmt(format_args!("{t}")),
            Type::List(element, length) => {
                self.str("list<");
                self.ty(element);
                self.fmt(format_args!(", {length}>"));
            }
            Type::Tuple(types) => {
                self.str("tuple<");
                for (i, ty) in types.iter().enumerate() {
                    self.separator(i);
                    self.ty(ty);
                }
                self.str(">");
            }
            Type::Dict(key, value) => {
                self.str("dict<");
                self.ty(key);
                self.str(", ");
                self.ty(value);
                self.str(">");
            }
            Type::State(ty) => {
                self.str("state<");
                self.ty(ty);
                self.str(">");
            }
        }
    }

    fn name(&mut self, name: &str) {
        if is_identifier(name) { self.str(name) } else { self.quoted('`', name) }
    }

    fn quoted(&mut self, quote: char, s: &str) {
        self.out.push(quote);
        for c in s.chars() {
            match c {
                '\n' => self.str("\\n"),
                '\t' => self.str("\\t"),
                '\r' => self.str("\\r"),
                c if c == quote || c == '\\' => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                c if c.is_ascii_control() => self.fmt(format_args!("\\x{:02x}", u32::from(c))),
                c => self.out.push(c),
            }
        }
        self.out.push(quote);
    }

    fn separator(&mut self, i: usize) {
        self.str(if i == 0 { "" } else { ", " });
    }

    fn indent(&mut self, depth: usize) {
        for _ in 0..depth {
            self.str("    ");
        }
    }

    fn str(&mut self, s: &str) {
        self.out.push_str(s);
    }

    fn fmt(&mut self, args: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(args);
    }
}

/// The most empty rows to print. The parser takes the shape from the type.
const MAX_EMPTY_ROWS: usize = 2;

/// The elements of a tensor, ready to be printed one by one.
enum Elements {
    Strings,
    Bools,
    Floats,
    Ints(Vec<i64>),
}

impl Elements {
    fn of(t: &Tensor) -> Elements {
        match t.dtype() {
            DType::String => Elements::Strings,
            DType::Bool => Elements::Bools,
            d if d.is_float() => Elements::Floats,
            _ => Elements::Ints(t.to_i64().unwrap_or_default()),
        }
    }
}

/// Files before iOS18 hold the parameters of `constexpr_*` ops as attributes.
fn params_are_attributes(op: &Op, opset: Opset) -> bool {
    opset < Opset::Ios18
        && op.kind.is_constexpr()
        && op
            .inputs
            .iter()
            .all(|i| matches!(i.args.as_slice(), [Arg::Const(_)]) && !op.attributes.contains_key(&i.name))
}
