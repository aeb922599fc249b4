//! The parser: turns text into a program. The text is untrusted: time and memory are linear in its length, and
//! recursion is bounded.

use std::collections::HashMap;

use super::MAX_DEPTH;
use super::error::ParseError;
use super::lex::{Lexer, Token};
use super::number::{NumberError, parse_float};
use crate::verify::MAX_RANK;
use crate::{
    Arg, Attributes, BlockId, DType, Dim, Function, Input, OpKind, Opset, Program, Tensor, TensorType, Type,
    Value, ValueId, pack_bits,
};

/// The most lists, tuples and dictionaries in the constants of a text; `MAX_TYPE_NODES` is the most types that one type
/// may be made of. Each list stores its type, so the product of the two bounds memory.
const MAX_CONTAINERS: usize = 1 << 16;
const MAX_TYPE_NODES: usize = 32;

/// Fetches a constant from a file, given path, offset and type. Returns the tensor or the reason why there is none.
pub type BlobResolver<'r> = dyn FnMut(&str, u64, &TensorType) -> Result<Tensor, String> + 'r;

/// Parses a program whose constants are all in the text.
///
/// # Errors
/// The text is not a program. Does not check what it says: [`verify`](crate::verify()) does.
pub fn parse(text: &str) -> Result<Program, ParseError> {
    parse_with(text, &mut no_files)
}

/// Parses a program; `blobs` fetches the constants that lie in files.
///
/// # Errors
/// The text is not a program, or a constant cannot be fetched.
pub fn parse_with(text: &str, blobs: &mut BlobResolver<'_>) -> Result<Program, ParseError> {
    let mut parser = Parser::new(text, blobs)?;
    let program = parser.program()?;
    parser.end()?;
    Ok(program)
}

/// Parses one constant, such as `tensor<fp32, [2]>([1, 0x1p-1])`.
///
/// # Errors
/// The text is not a constant.
pub fn parse_value(text: &str) -> Result<Value, ParseError> {
    let mut no_files = no_files;
    let mut parser = Parser::new(text, &mut no_files)?;
    let value = parser.value()?;
    parser.end()?;
    Ok(value)
}

fn no_files(path: &str, _: u64, _: &TensorType) -> Result<Tensor, String> {
    Err(format!("the constant lies in the file `{path}`, and there is no file to read here"))
}

struct Parser<'a, 'r> {
    lex: Lexer<'a>,
    blobs: &'r mut BlobResolver<'r>,
    containers: usize,
}

/// The values that names refer to.
#[derive(Default)]
struct Scope {
    names: HashMap<String, ValueId>,
    /// For each definition, in order: the name, and the value that it referred to before.
    trail: Vec<(String, Option<ValueId>)>,
}

impl Scope {
    fn define(&mut self, name: &str, value: ValueId) {
        let before = self.names.insert(name.to_owned(), value);
        self.trail.push((name.to_owned(), before));
    }

    fn unwind(&mut self, to: usize) {
        for (name, before) in self.trail.drain(to..).rev() {
            match before {
                Some(value) => self.names.insert(name, value),
                None => self.names.remove(&name),
            };
        }
    }
}

type Result<T, E = ParseError> = std::result::Result<T, E>;

// Programs, functions, blocks, ops.
impl<'a, 'r> Parser<'a, 'r> {
    fn new<'s: 'r>(text: &'a str, blobs: &'r mut BlobResolver<'s>) -> Result<Parser<'a, 'r>> {
        Ok(Parser { lex: Lexer::new(text)?, blobs, containers: 0 })
    }

    fn program(&mut self) -> Result<Program> {
        self.keyword("program")?;
        self.char('(')?;
        match self.lex.token {
            Token::Number(n) if n.starts_with("1.") => self.lex.advance()?,
            _ => return Err(self.lex.unexpected("a version of the form 1.x")),
        };
        self.char(')')?;
        let mut program = Program { attributes: self.attributes()?, ..Program::default() };
        self.char('{')?;
        while !self.take('}')? {
            self.keyword("func")?;
            let start = self.lex.start;
            let name = self.name("the function's name")?;
            let function = self.function()?;
            if program.functions.insert(name.clone(), function).is_some() {
                return Err(self.lex.error_at(start, format!("there are two functions `{name}`")));
            }
        }
        Ok(program)
    }

    fn function(&mut self) -> Result<Function> {
        self.char('<')?;
        let opset = match self.lex.token {
            Token::Ident(name) => Opset::from_name(name),
            _ => None,
        };
        let Some(opset) = opset else {
            let known: Vec<_> = Opset::ALL.iter().map(|o| o.text_name()).collect();
            return Err(self.lex.unexpected(&format!("an opset ({})", known.join(", "))));
        };
        self.lex.advance()?;
        self.char('>')?;
        let mut function = Function::new(opset);
        let mut scope = Scope::default();
        for (name, ty) in self.block_inputs()? {
            let value = function.add_input(name.clone(), ty);
            scope.define(&name, value);
        }
        function.attributes = self.attributes()?;
        let body = function.body;
        self.block_body(&mut function, &mut scope, body, 0)?;
        self.char(';')?;
        Ok(function)
    }

    fn block_inputs(&mut self) -> Result<Vec<(String, Type)>> {
        self.char('(')?;
        self.list(')', |p| {
            let ty = p.ty()?;
            Ok((p.name("the input's name")?, ty))
        })
    }

    /// Parses a block from its attributes to the names of its outputs.
    fn block_body(
        &mut self,
        f: &mut Function,
        scope: &mut Scope,
        block: BlockId,
        depth: usize,
    ) -> Result<()> {
        f[block].attributes = self.attributes()?;
        self.char('{')?;
        while !self.take('}')? {
            self.op(f, scope, block, depth)?;
        }
        if self.lex.token != Token::Arrow {
            return Err(self.lex.unexpected("`->` and the outputs"));
        }
        self.lex.advance()?;
        self.char('(')?;
        f[block].outputs = self.list(')', |p| p.used(scope))?;
        Ok(())
    }

    fn op(&mut self, f: &mut Function, scope: &mut Scope, block: BlockId, depth: usize) -> Result<()> {
        let mut outputs = Vec::new();
        if !(matches!(self.lex.token, Token::Ident(_)) && self.lex.next_starts_with('(')) {
            loop {
                let ty = self.ty()?;
                outputs.push((self.name("the output's name")?, ty));
                if !self.take(',')? {
                    break;
                }
            }
            self.char('=')?;
        }
        let kind = match self.lex.token {
            Token::Ident(name) => match OpKind::from_name(name) {
                Some(kind) => kind,
                None => return Err(self.lex.error_at(self.lex.start, format!("unknown op `{name}`"))),
            },
            _ => return Err(self.lex.unexpected("an op")),
        };
        self.lex.advance()?;
        self.char('(')?;
        let mut inputs = self.list(')', |p| p.input(scope))?;
        let mut attributes = self.attributes()?;
        if kind.is_constexpr() {
            // In the IR they are always inputs.
            let params = attributes.split_off(0).into_iter();
            for (name, value) in params {
                match name.as_str() {
                    "name" => drop(attributes.insert(name, value)),
                    _ => inputs.push(Input::constant(name, value)),
                }
            }
        }
        let mut blocks = Vec::new();
        while self.lex.token == Token::Char('(') {
            blocks.push(self.nested_block(f, scope, depth + 1)?);
            self.take(',')?;
        }
        self.char(';')?;
        let op = f.push_op(block, kind, inputs, outputs);
        f[op].attributes = attributes;
        f[op].blocks = blocks;
        for &output in &f[op].outputs {
            scope.define(&f[output].name, output);
        }
        Ok(())
    }

    fn nested_block(&mut self, f: &mut Function, scope: &mut Scope, depth: usize) -> Result<BlockId> {
        self.deep(depth)?;
        let block = f.add_block();
        let outer = scope.trail.len();
        for (name, ty) in self.block_inputs()? {
            let value = f.add_block_input(block, name.clone(), ty);
            scope.define(&name, value);
        }
        self.block_body(f, scope, block, depth)?;
        scope.unwind(outer);
        Ok(block)
    }

    fn input(&mut self, scope: &Scope) -> Result<Input> {
        let name = self.name("a parameter's name")?;
        self.char('=')?;
        let args = match self.take('(')? {
            true => self.list(')', |p| p.arg(scope))?,
            false => vec![self.arg(scope)?],
        };
        Ok(Input { name, args })
    }

    fn arg(&mut self, scope: &Scope) -> Result<Arg> {
        // A constant starts with a type, which `<` or `(` follows.
        let typed = matches!(self.lex.token, Token::Ident(_))
            && (self.lex.next_starts_with('(') || self.lex.next_starts_with('<'));
        if typed { self.value().map(Arg::Const) } else { self.used(scope).map(Arg::Value) }
    }

    fn used(&mut self, scope: &Scope) -> Result<ValueId> {
        let start = self.lex.start;
        let name = self.name("a name or a constant")?;
        let undefined = || self.lex.error_at(start, format!("`{name}` is not defined here"));
        scope.names.get(&name).copied().ok_or_else(undefined)
    }

    fn attributes(&mut self) -> Result<Attributes> {
        let mut attributes = Attributes::new();
        if self.take('[')? {
            let start = self.lex.start;
            let list = self.list(']', |p| {
                let name = p.name("an attribute's name")?;
                p.char('=')?;
                Ok((name, p.value()?))
            })?;
            for (name, value) in list {
                if attributes.contains_key(&name) {
                    return Err(self.lex.error_at(start, format!("there are two attributes `{name}`")));
                }
                attributes.insert(name, value);
            }
        }
        Ok(attributes)
    }
}

// Types and constants.
impl Parser<'_, '_> {
    fn ty(&mut self) -> Result<Type> {
        let (start, mut nodes) = (self.lex.start, 0);
        let ty = self.ty_at(0, &mut nodes)?;
        match nodes > MAX_TYPE_NODES {
            true => Err(self.lex.error_at(start, format!("the type has more than {MAX_TYPE_NODES} parts"))),
            false => Ok(ty),
        }
    }

    fn ty_at(&mut self, depth: usize, nodes: &mut usize) -> Result<Type> {
        self.deep(depth)?;
        *nodes += 1;
        let Token::Ident(word) = self.lex.token else { return Err(self.lex.unexpected("a type")) };
        if let Ok(dtype) = word.parse::<DType>() {
            self.lex.advance()?;
            return Ok(Type::scalar(dtype));
        }
        if !matches!(word, "tensor" | "list" | "tuple" | "dict" | "state") {
            return Err(self.lex.unexpected("a type"));
        }
        self.lex.advance()?;
        self.char('<')?;
        let ty = match word {
            "tensor" => {
                let dtype = match self.lex.token {
                    Token::Ident(name) => name.parse().ok(),
                    _ => None,
                };
                let dtype: DType = dtype.ok_or_else(|| self.lex.unexpected("an element type"))?;
                self.lex.advance()?;
                self.char(',')?;
                let start = self.lex.start;
                self.char('[')?;
                let shape = self.list(']', Self::dim)?;
                if shape.len() > MAX_RANK {
                    return Err(self.lex.error_at(start, format!("more than {MAX_RANK} dimensions")));
                }
                Type::Tensor(TensorType::new(dtype, shape))
            }
            "list" => {
                let element = self.ty_at(depth + 1, nodes)?;
                self.char(',')?;
                Type::List(Box::new(element), self.dim()?)
            }
            "dict" => {
                let key = self.ty_at(depth + 1, nodes)?;
                self.char(',')?;
                Type::Dict(Box::new(key), Box::new(self.ty_at(depth + 1, nodes)?))
            }
            "state" => Type::State(Box::new(self.ty_at(depth + 1, nodes)?)),
            _ => return Ok(Type::Tuple(self.list('>', |p| p.ty_at(depth + 1, nodes))?)),
        };
        self.char('>')?;
        Ok(ty)
    }

    fn dim(&mut self) -> Result<Dim> {
        if self.take('?')? {
            return Ok(Dim::Unknown);
        }
        let size = match self.lex.token {
            Token::Number(n) => n.parse::<usize>().ok(),
            _ => None,
        };
        let size = size.ok_or_else(|| self.lex.unexpected("a size or `?`"))?;
        self.lex.advance()?;
        Ok(Dim::Fixed(size))
    }

    /// Parses a type and a literal in parentheses.
    fn value(&mut self) -> Result<Value> {
        let ty = self.ty()?;
        self.char('(')?;
        let value = self.literal(&ty, 0)?;
        self.char(')')?;
        Ok(value)
    }

    fn literal(&mut self, ty: &Type, depth: usize) -> Result<Value> {
        self.deep(depth)?;
        if let Type::Tensor(t) = ty {
            return self.tensor(t).map(Value::Tensor);
        }
        self.containers += 1;
        if self.containers > MAX_CONTAINERS {
            let what = format!("more than {MAX_CONTAINERS} lists and dictionaries in constants");
            return Err(self.lex.error_at(self.lex.start, what));
        }
        let start = self.lex.start;
        match ty {
            Type::List(element, length) => {
                self.char('[')?;
                let items = self.list(']', |p| p.literal(element, depth + 1))?;
                if !length.agrees(Dim::Fixed(items.len())) {
                    let what = format!("the list has {} elements, the type says {length}", items.len());
                    return Err(self.lex.error_at(start, what));
                }
                Ok(Value::List((**element).clone(), items))
            }
            Type::Tuple(types) => {
                self.char('(')?;
                let mut items = Vec::with_capacity(types.len());
                for (i, ty) in types.iter().enumerate() {
                    if i > 0 {
                        self.char(',')?;
                    }
                    items.push(self.literal(ty, depth + 1)?);
                }
                self.char(')')?;
                Ok(Value::Tuple(items))
            }
            Type::Dict(key, value) => {
                self.char('{')?;
                let entries = self.list('}', |p| {
                    p.char('{')?;
                    let k = p.literal(key, depth + 1)?;
                    p.char(',')?;
                    let v = p.literal(value, depth + 1)?;
                    p.char('}')?;
                    Ok((k, v))
                })?;
                Ok(Value::Dict((**key).clone(), (**value).clone(), entries))
            }
            Type::Tensor(_) | Type::State(_) => Err(self.lex.unexpected("a constant: a state has none")),
        }
    }

    fn tensor(&mut self, ty: &TensorType) -> Result<Tensor> {
        let start = self.lex.start;
        if self.lex.token == Token::Ident("BLOBFILE") {
            return self.blob(ty);
        }
        let mut elements = Elements::new(ty.dtype);
        let mut shape = Vec::new();
        match (&self.lex.token, ty.rank()) {
            (_, 0) => self.element(&mut elements)?,
            (Token::Char('['), rank) => self.row(&mut elements, &mut shape, 0, rank)?,
            _ => return Err(self.lex.unexpected("`[` or BLOBFILE")),
        }
        let written: Vec<usize> = shape.into_iter().map(|d| d.unwrap_or(0)).collect();
        let shape = match ty.fixed_shape() {
            // A flat row of elements may stand for any shape.
            Some(fixed) if written.len() == 1 && ty.elements() == Some(elements.count) => fixed,
            // The literal `[]` does not show the dimensions after a 0.
            Some(fixed) if elements.count == 0 && ty.elements() == Some(0) => fixed,
            _ => written,
        };
        if !TensorType::fixed(ty.dtype, &shape).agrees(ty) {
            let declared: Vec<_> = ty.shape.iter().map(Dim::to_string).collect();
            let what = format!("the literal has shape {shape:?}, the type says [{}]", declared.join(", "));
            return Err(self.lex.error_at(start, what));
        }
        elements.into_tensor(&shape).map_err(|e| self.lex.error_at(start, e.to_string()))
    }

    /// Parses a bracketed row at some depth. `shape` has the length of the rows at each depth, once a row has ended.
    fn row(
        &mut self,
        elements: &mut Elements,
        shape: &mut Vec<Option<usize>>,
        depth: usize,
        rank: usize,
    ) -> Result<()> {
        if depth == rank {
            return Err(self
                .lex
                .error_at(self.lex.start, format!("brackets nest deeper than the rank, {rank}")));
        }
        let start = self.lex.start;
        self.char('[')?;
        if shape.len() == depth {
            shape.push(None);
        }
        let mut length = 0;
        while !self.take(']')? {
            if length > 0 {
                self.comma(']')?;
            }
            let scalars_here = elements.depth.is_some_and(|d| depth >= d);
            if self.lex.token == Token::Char('[') && !scalars_here {
                self.row(elements, shape, depth + 1, rank)?;
            } else if shape.len() > depth + 1 {
                return Err(self.lex.unexpected("`[`, like the rows before"));
            } else {
                elements.depth = Some(depth);
                self.element(elements)?;
            }
            length += 1;
        }
        match shape[depth].replace(length) {
            Some(other) if other != length => {
                let what = format!("rows of different lengths: {other} and {length}");
                Err(self.lex.error_at(start, what))
            }
            _ => Ok(()),
        }
    }

    fn blob(&mut self, ty: &TensorType) -> Result<Tensor> {
        let start = self.lex.start;
        self.lex.advance()?;
        self.char('(')?;
        self.keyword("path")?;
        self.char('=')?;
        let path = self.value()?;
        self.char(',')?;
        self.keyword("offset")?;
        self.char('=')?;
        let offset = self.value()?;
        self.char(')')?;
        let number = offset.as_tensor().filter(|t| t.elements() == 1).and_then(Tensor::to_i64);
        let offset = number.and_then(|n| u64::try_from(n[0]).ok());
        let (Some(path), Some(offset)) = (path.as_str(), offset) else {
            return Err(self.lex.error_at(start, "BLOBFILE takes a string and an offset".to_owned()));
        };
        let tensor = (self.blobs)(path, offset, ty).map_err(|e| self.lex.error_at(start, e))?;
        match tensor.ty().agrees(ty) {
            true => Ok(tensor),
            false => Err(self.lex.error_at(start, format!("the file has {}, not {ty}", tensor.ty()))),
        }
    }

    fn element(&mut self, elements: &mut Elements) -> Result<()> {
        elements.count += 1;
        let (start, dtype) = (self.lex.start, elements.dtype);
        match (dtype, &self.lex.token) {
            (DType::String, Token::Str(s)) => {
                elements.strings.push(s.clone().into_owned());
                self.lex.advance()?;
            }
            (DType::Bool, Token::Ident(word @ ("true" | "false"))) => {
                elements.bytes.push(u8::from(*word == "true"));
                self.lex.advance()?;
            }
            (_, Token::Ident(word @ ("inf" | "nan"))) if dtype.is_float() => {
                let word = *word;
                self.lex.advance()?;
                match self.take('(')? {
                    true => {
                        let bits = self.nan_bits(dtype)?;
                        self.char(')')?;
                        elements.push(bits);
                    }
                    false => elements.push(parse_float(word, dtype).unwrap_or_default()),
                }
            }
            (_, Token::Number(text)) if dtype.is_float() => {
                let bits = parse_float(text, dtype).map_err(|e| match e {
                    NumberError::Malformed => self.lex.unexpected("a number"),
                    NumberError::Range => self.lex.error_at(start, format!("{text} does not fit {dtype}")),
                })?;
                elements.push(bits);
                self.lex.advance()?;
            }
            (_, Token::Number(text)) if dtype.is_int() => {
                let wide: i128 = text.parse().map_err(|_| self.lex.unexpected("an integer"))?;
                if !int_range(dtype).contains(&wide) {
                    return Err(self.lex.error_at(start, format!("{text} does not fit {dtype}")));
                }
                elements.push(wide as u64);
                self.lex.advance()?;
            }
            _ => {
                let expected = match dtype {
                    DType::String => "a string",
                    DType::Bool => "true or false",
                    _ if dtype.is_int() => "an integer",
                    _ => "a number",
                };
                return Err(self.lex.unexpected(expected));
            }
        }
        Ok(())
    }

    fn nan_bits(&mut self, dtype: DType) -> Result<u64> {
        let bits = match self.lex.token {
            Token::Number(n) => n.strip_prefix("0x").and_then(|h| u64::from_str_radix(h, 16).ok()),
            _ => None,
        };
        let bits = bits.filter(|b| dtype.bits() == 64 || b >> dtype.bits() == 0);
        let bits = bits.ok_or_else(|| self.lex.unexpected("the bits of a nan"))?;
        self.lex.advance()?;
        Ok(bits)
    }
}

// Tokens.
impl Parser<'_, '_> {
    fn end(&self) -> Result<()> {
        if self.lex.token == Token::End { Ok(()) } else { Err(self.lex.unexpected("the end of the text")) }
    }

    fn keyword(&mut self, word: &str) -> Result<()> {
        if self.lex.token != Token::Ident(word) {
            return Err(self.lex.unexpected(&format!("`{word}`")));
        }
        self.lex.advance()?;
        Ok(())
    }

    fn char(&mut self, c: char) -> Result<()> {
        if self.take(c)? { Ok(()) } else { Err(self.lex.unexpected(&format!("`{c}`"))) }
    }

    fn take(&mut self, c: char) -> Result<bool> {
        let is = self.lex.token == Token::Char(c);
        if is {
            self.lex.advance()?;
        }
        Ok(is)
    }

    fn comma(&mut self, close: char) -> Result<()> {
        if self.take(',')? { Ok(()) } else { Err(self.lex.unexpected(&format!("`,` or `{close}`"))) }
    }

    fn name(&mut self, what: &str) -> Result<String> {
        if !matches!(self.lex.token, Token::Ident(_) | Token::Name(_)) {
            return Err(self.lex.unexpected(what));
        }
        Ok(match self.lex.advance()? {
            Token::Name(name) => name.into_owned(),
            Token::Ident(name) => name.to_owned(),
            _ => String::new(),
        })
    }

    /// Parses items separated by commas, up to a closing character. The opening character was read before.
    fn list<T>(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.take(close)? {
            if !items.is_empty() {
                self.comma(close)?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn deep(&self, depth: usize) -> Result<()> {
        match depth > MAX_DEPTH {
            true => Err(self.lex.error_at(self.lex.start, format!("nested more than {MAX_DEPTH} deep"))),
            false => Ok(()),
        }
    }
}

/// The elements of a tensor that is being read.
struct Elements {
    dtype: DType,
    count: usize,
    /// How many brackets enclose each element, once an element has been read.
    depth: Option<usize>,
    /// Little-endian; sub-byte elements take one byte each.
    bytes: Vec<u8>,
    strings: Vec<String>,
}

impl Elements {
    fn new(dtype: DType) -> Elements {
        Elements { dtype, count: 0, depth: None, bytes: Vec::new(), strings: Vec::new() }
    }

    fn push(&mut self, bits: u64) {
        self.bytes.extend_from_slice(&bits.to_le_bytes()[..self.dtype.bits().div_ceil(8)]);
    }

    fn into_tensor(self, shape: &[usize]) -> Result<Tensor, crate::TensorError> {
        match self.dtype {
            DType::String => Tensor::from_strings(shape, self.strings),
            d if d.is_sub_byte() => Tensor::from_bytes(d, shape, pack_bits(&self.bytes, d.bits()).into()),
            d => Tensor::from_bytes(d, shape, self.bytes.into()),
        }
    }
}

fn int_range(dtype: DType) -> std::ops::RangeInclusive<i128> {
    let bits = dtype.bits();
    match dtype.is_signed_int() {
        true => -(1i128 << (bits - 1))..=(1i128 << (bits - 1)) - 1,
        false => 0..=(1i128 << bits) - 1,
    }
}
