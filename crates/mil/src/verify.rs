//! The verifier: checks programs before anything computes with them.
//!
//! [`verify()`] walks each function once, in linear time, and reports every violation of a [`Rule`] (up to
//! [`MAX_ERRORS`]). A program without one becomes a [`Checked`], the only form that engines and writers take. Not checked
//! are:
//!
//! * values that are only known when the function runs, such as indices and data-dependent shapes: kernels check them;
//! * that weights are finite, and that the program computes anything sensible;
//! * that a file format or an Apple device accepts the program: writers check that;
//! * how deep types and constants nest: readers of untrusted text or bytes limit that while they read.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;

use crate::infer::{Facts, infer_op};
use crate::ops::{ArgView, Default, Kind, OpView, Param, Version};
use crate::types::size_fits;
pub use crate::types::{MAX_ELEMENTS, MAX_RANK};
use crate::{Arg, BlockId, DType, Def, Function, OpId, OpKind, Program, Type, Value, ValueId};

/// A program that keeps every [`Rule`]. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct Checked(Program);

impl Checked {
    /// Returns the program, so that it can be changed and verified again.
    pub fn into_inner(self) -> Program {
        self.0
    }

    /// A program with only this function. It keeps every rule, because functions do not refer to each other.
    pub fn only(&self, function: &str) -> Option<Checked> {
        let found = self.0.functions.get(function)?.clone();
        let mut program = Program::default();
        program.functions.insert(function.to_owned(), found);
        Some(Checked(program))
    }

    /// Renumbers what the functions use and frees the rest, which changes no rule's outcome. Debug builds check that.
    pub(crate) fn compacted(mut self) -> Result<Checked, VerifyErrors> {
        self.0.functions.values_mut().for_each(Function::compact);
        if cfg!(debug_assertions) {
            check(&self.0)?;
        }
        Ok(self)
    }
}

impl Deref for Checked {
    type Target = Program;
    fn deref(&self) -> &Program {
        &self.0
    }
}

/// Checks a program.
///
/// # Errors
/// The program violates a [`Rule`]. The error lists every violation, in the order of the program.
pub fn verify(program: Program) -> Result<Checked, VerifyErrors> {
    check(&program)?;
    Ok(Checked(program))
}

/// The deepest nesting of blocks: far deeper than in any real model, far less than the stack can hold.
pub const MAX_NESTING: usize = 64;
/// The most errors that are kept. Further ones are only counted.
pub const MAX_ERRORS: usize = 100;

/// A rule that programs must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The program has functions, and each has outputs.
    Function,
    /// Every id is in range. An op or a block is in one place only. A value is defined where it says it is. Blocks nest
    /// at most [`MAX_NESTING`] deep, and only in control flow.
    Structure,
    /// A value is used only after its definition, and only in its block or in blocks nested in it.
    Scope,
    /// No two values that are visible together have the same name.
    Name,
    /// The op exists in the function's opset.
    Opset,
    /// Every parameter that the op's version requires is bound, no parameter is bound twice or unknown, and each has as
    /// many values as it takes.
    Parameter,
    /// Every parameter that requires a constant has one.
    Constant,
    /// The op's version accepts the element types of its inputs.
    DType,
    /// The inputs fit each other, and the declared outputs agree in number and types with those that the op computes.
    Type,
    /// A tensor has at most [`MAX_ELEMENTS`] elements and [`MAX_RANK`] dimensions.
    Size,
    /// `name` is a string; the elements of a constant list or dictionary have its type.
    Attribute,
    /// A state is an input of the function, and only state ops use it.
    State,
}

/// A violation of a rule, and where it is.
#[derive(Clone, Debug)]
pub struct VerifyError {
    rule: Rule,
    function: String,
    op: Option<(OpKind, String)>,
    message: String,
    hint: Option<String>,
}

impl VerifyError {
    /// The rule that is violated.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The name of the function; empty for the program itself.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The op, if the error is about one: its kind, and its name in the source (or its first output's name).
    pub fn op(&self) -> Option<(OpKind, &str)> {
        self.op.as_ref().map(|(kind, name)| (*kind, name.as_str()))
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.function.is_empty() {
            write!(f, "function `{}`: ", self.function)?;
        }
        if let Some((kind, name)) = &self.op {
            write!(f, "{} `{name}`: ", kind.name())?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for VerifyError {}

/// Every violation that was found. Displays as one error per line, with hints indented below.
#[derive(Clone, Debug, Default)]
pub struct VerifyErrors {
    errors: Vec<VerifyError>,
    omitted: usize,
}

impl VerifyErrors {
    /// The errors, in the order of the program; at most [`MAX_ERRORS`].
    pub fn errors(&self) -> &[VerifyError] {
        &self.errors
    }

    /// The number of further errors that were not kept.
    pub fn omitted(&self) -> usize {
        self.omitted
    }
}

impl fmt::Display for VerifyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.errors.iter().enumerate() {
            write!(f, "{}{e}", if i == 0 { "" } else { "\n" })?;
            if let Some(hint) = &e.hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for VerifyErrors {}

/// Like [`verify`], by reference.
pub(crate) fn check(program: &Program) -> Result<(), VerifyErrors> {
    let mut errors = VerifyErrors::default();
    if program.functions.is_empty() {
        let what = "the program has no functions".to_owned();
        errors.push(Rule::Function, "", None, None, || what);
    }
    for (name, function) in &program.functions {
        FunctionVerifier::new(name, function, &mut errors).run();
    }
    if errors.errors.is_empty() { Ok(()) } else { Err(errors) }
}

impl VerifyErrors {
    fn push(
        &mut self,
        rule: Rule,
        function: &str,
        op: Option<(OpKind, &str)>,
        hint: Option<String>,
        message: impl FnOnce() -> String,
    ) {
        if self.errors.len() == MAX_ERRORS {
            self.omitted += 1;
            return;
        }
        self.errors.push(VerifyError {
            rule,
            function: function.to_owned(),
            op: op.map(|(kind, name)| (kind, name.to_owned())),
            message: message(),
            hint,
        });
    }

    fn count(&self) -> usize {
        self.errors.len() + self.omitted
    }
}

struct FunctionVerifier<'p, 'e> {
    name: &'p str,
    function: &'p Function,
    errors: &'e mut VerifyErrors,
    facts: Facts,
    /// The op that is being checked.
    at: Option<OpId>,
    seen_ops: Vec<bool>,
    seen_blocks: Vec<bool>,
    /// The values that are in scope. `trail` has them in the order of their definitions.
    visible: Vec<bool>,
    trail: Vec<ValueId>,
    names: HashSet<&'p str>,
}

impl<'p, 'e> FunctionVerifier<'p, 'e> {
    fn new(name: &'p str, function: &'p Function, errors: &'e mut VerifyErrors) -> Self {
        FunctionVerifier {
            name,
            function,
            errors,
            facts: Facts::new(),
            at: None,
            seen_ops: vec![false; function.op_count()],
            seen_blocks: vec![false; function.block_count()],
            visible: vec![false; function.value_count()],
            trail: Vec::new(),
            names: HashSet::new(),
        }
    }

    fn run(mut self) {
        let f = self.function;
        for (i, &input) in f.inputs.iter().enumerate() {
            self.define(input, Def::Function(i));
        }
        if f.body.index() >= f.block_count() {
            return self.error(Rule::Structure, || "the body is not a block of the function".into());
        }
        self.seen_blocks[f.body.index()] = true;
        if !f[f.body].inputs.is_empty() {
            self.error(Rule::Structure, || "the body block has inputs of its own".into());
        }
        if f[f.body].outputs.is_empty() {
            self.error(Rule::Function, || "the function has no outputs".into());
        }
        self.block(f.body, 0);
        for &output in &f[f.body].outputs {
            if f.has_value(output) && matches!(f[output].ty, Type::State(_)) {
                let name = &f[output].name;
                self.error(Rule::State, || format!("the state `{name}` cannot be an output"));
            }
        }
    }

    /// Checks a block whose id is in range. Its depth, and so this recursion, is limited by [`MAX_NESTING`].
    fn block(&mut self, id: BlockId, depth: usize) {
        let f = self.function;
        let scope = self.trail.len();
        for (i, &input) in f[id].inputs.iter().enumerate() {
            self.define(input, Def::Block(id, i));
        }
        for &op in &f[id].ops {
            if op.index() >= f.op_count() {
                self.error(Rule::Structure, || format!("op number {} does not exist", op.index()));
            } else if std::mem::replace(&mut self.seen_ops[op.index()], true) {
                let op = &f[op];
                self.error(Rule::Structure, || format!("{} `{}` appears twice", op.kind.name(), op.name()));
            } else {
                let outer = self.at.replace(op);
                self.op(op, depth);
                self.at = outer;
            }
        }
        for &output in &f[id].outputs {
            self.used(output, "the block's output");
        }
        for value in self.trail.drain(scope..) {
            self.visible[value.index()] = false;
            self.names.remove(f[value].name.as_str());
        }
    }

    fn op(&mut self, id: OpId, depth: usize) {
        let f = self.function;
        let op = &f[id];
        let before = self.errors.count();
        self.attributes(id);
        for input in &op.inputs {
            for arg in &input.args {
                match arg {
                    Arg::Value(v) => self.used(*v, &input.name),
                    Arg::Const(c) => self.constant(c, &input.name),
                }
            }
        }
        if !op.blocks.is_empty() && !matches!(op.kind, OpKind::Cond | OpKind::WhileLoop) {
            self.error(Rule::Structure, || "only control flow has nested blocks".into());
        }
        for &block in &op.blocks {
            if block.index() >= f.block_count() {
                self.error(Rule::Structure, || format!("block number {} does not exist", block.index()));
            } else if std::mem::replace(&mut self.seen_blocks[block.index()], true) {
                self.error(Rule::Structure, || format!("block number {} appears twice", block.index()));
            } else if depth == MAX_NESTING {
                self.error(Rule::Structure, || format!("blocks nest more than {MAX_NESTING} deep"));
            } else {
                self.block(block, depth + 1);
            }
        }
        match op.kind.version(f.opset) {
            Some(version) => self.parameters(id, version),
            None => self.too_new(op.kind),
        }
        for (i, &output) in op.outputs.iter().enumerate() {
            self.define(output, Def::Op(id, i));
        }
        if self.errors.count() == before {
            self.infer(id);
        }
    }

    fn attributes(&mut self, id: OpId) {
        let op = &self.function[id];
        if op.attributes.get("name").is_some_and(|n| n.as_str().is_none()) {
            self.error(Rule::Attribute, || "attribute `name` is not a string".into());
        }
        if op.kind == OpKind::Const {
            match op.attributes.get("val") {
                Some(val) => self.constant(val, "val"),
                None => self.error(Rule::Attribute, || "attribute `val` is missing".into()),
            }
        }
    }

    /// Checks that a list or dictionary contains only what its type says.
    fn constant(&mut self, value: &Value, name: &str) {
        let fits = match value {
            Value::Tensor(_) | Value::Tuple(_) => true,
            Value::List(t, items) => items.iter().all(|v| v.ty().agrees(t)),
            Value::Dict(k, v, entries) => {
                entries.iter().all(|(key, value)| key.ty().agrees(k) && value.ty().agrees(v))
            }
        };
        if !fits {
            self.error(Rule::Attribute, || format!("`{name}` holds elements of another type than it says"));
        }
        self.size(&value.ty(), name);
    }

    fn too_new(&mut self, kind: OpKind) {
        let opset = self.function.opset;
        let Some(first) = kind.versions().first() else { return };
        let hint = format!(
            "raise the function's opset to {} (specification version {}), or replace the op",
            first.opset,
            first.opset.specification_version()
        );
        self.error_with(Rule::Opset, Some(hint), || {
            format!("the op came with {}; the function's opset is {opset}", first.opset)
        });
    }

    fn parameters(&mut self, id: OpId, version: &'static Version) {
        let f = self.function;
        let op = &f[id];
        let before = self.errors.count();
        let mut bound = HashSet::new();
        for input in &op.inputs {
            let Some(param) = version.param(&input.name) else {
                self.error_with(Rule::Parameter, Some(takes(op.kind, version)), || {
                    format!("there is no parameter `{}` in opset {}", input.name, f.opset)
                });
                continue;
            };
            if !bound.insert(param.name) {
                self.error(Rule::Parameter, || format!("parameter `{}` is bound twice", input.name));
            }
            if input.args.is_empty() {
                self.error(Rule::Parameter, || format!("parameter `{}` is bound to nothing", input.name));
            } else if input.args.len() > 1 && !param.variadic {
                self.error(Rule::Parameter, || {
                    format!("parameter `{}` takes one value, not {}", input.name, input.args.len())
                });
            }
        }
        for param in version.params() {
            if param.default == Default::Required && !bound.contains(param.name) {
                self.error_with(Rule::Parameter, Some(takes(op.kind, version)), || {
                    format!("parameter `{}` is missing", param.name)
                });
            }
        }
        // Argument types can be checked only if every id is in range and every parameter is known.
        if self.errors.count() > before || !op.values().all(|v| f.has_value(v)) {
            return;
        }
        let facts = std::mem::take(&mut self.facts);
        if let Ok(view) = facts.view_args(f, id) {
            self.argument_types(id, &view, version);
        }
        self.facts = facts;
    }

    fn argument_types(&mut self, id: OpId, view: &OpView<'_>, version: &'static Version) {
        let f = self.function;
        // Each type variable that is bound so far: its name, its element type, and the input that bound it.
        let mut vars: Vec<(&str, DType, &str)> = Vec::new();
        for (input, (_, args)) in f[id].inputs.iter().zip(&view.args) {
            let Some(param) = version.param(&input.name) else { continue };
            for (arg, seen) in input.args.iter().zip(args) {
                if param.constant && !self.is_constant(arg, seen) {
                    let hint = "compute it from constants, or bind a `const`".to_owned();
                    self.error_with(Rule::Constant, Some(hint), || {
                        format!("parameter `{}` must be a constant", param.name)
                    });
                }
                self.argument_type(param, arg, &seen.ty, version, &mut vars);
            }
        }
    }

    fn argument_type(
        &mut self,
        param: &'static Param,
        arg: &Arg,
        ty: &Type,
        version: &'static Version,
        vars: &mut Vec<(&'static str, DType, &'static str)>,
    ) {
        let name = param.name;
        if let Type::State(_) = ty {
            let from_input =
                matches!(arg, Arg::Value(v) if matches!(self.function[*v].def, Def::Function(_)));
            if !matches!(param.kind, Kind::State) {
                let hint = "read it with `read_state` first".to_owned();
                self.error_with(Rule::State, Some(hint), || {
                    format!("parameter `{name}` cannot take a state")
                });
            } else if !from_input {
                self.error(Rule::State, || format!("the state of `{name}` is not an input of the function"));
            }
            return;
        }
        match param.kind {
            Kind::Any => return,
            Kind::List if matches!(ty, Type::List(..)) => return,
            Kind::List => {
                return self.error(Rule::DType, || format!("parameter `{name}` takes a list, not {ty}"));
            }
            Kind::State => {
                return self.error(Rule::State, || format!("parameter `{name}` takes a state, not {ty}"));
            }
            Kind::Of(_) | Kind::Var(_) => {}
        }
        let Type::Tensor(tensor) = ty else {
            return self.error(Rule::DType, || format!("parameter `{name}` takes a tensor, not {ty}"));
        };
        if !version.takes(param, tensor.dtype) {
            let opset = self.function.opset;
            return self.error(Rule::DType, || {
                let list: Vec<_> = version.taken(param).iter().map(|d| d.name()).collect();
                format!(
                    "parameter `{name}` is {}; in opset {opset} it takes {}",
                    tensor.dtype,
                    list.join(", ")
                )
            });
        }
        if let Kind::Var(var) = param.kind {
            match vars.iter().find(|(v, ..)| *v == var) {
                Some(&(_, dtype, first)) if dtype != tensor.dtype => self.error(Rule::DType, || {
                    let other = if first == name { "another value of it" } else { &format!("`{name}`") };
                    format!("`{first}` is {dtype} and {other} is {}: they must be the same", tensor.dtype)
                }),
                Some(_) => {}
                None => vars.push((var, tensor.dtype, name)),
            }
        }
    }

    /// Whether the value is known before the run: an immediate, a `const`, a compressed constant, or folded by
    /// inference.
    fn is_constant(&self, arg: &Arg, seen: &ArgView<'_>) -> bool {
        let constexpr = |v: ValueId| {
            self.function
                .defining_op(v)
                .is_some_and(|op| self.function.has_op(op) && self.function[op].kind.is_constexpr())
        };
        seen.value().is_some() || matches!(arg, Arg::Value(v) if constexpr(*v))
    }

    /// Infers the outputs of an op that has no errors so far, and compares them with the declared ones.
    fn infer(&mut self, id: OpId) {
        let f = self.function;
        // The definition of an input that is too large has an error already.
        if f[id].values().any(|v| !size_fits(self.facts.ty(f, v))) {
            return;
        }
        let outputs = match infer_op(f, id, &self.facts) {
            Ok(outputs) => outputs,
            Err(e) => return self.error(Rule::Type, || e.0),
        };
        let declared = &f[id].outputs;
        if outputs.len() != declared.len() {
            return self.error(Rule::Type, || {
                format!("the number of outputs is {}; declared are {}", outputs.len(), declared.len())
            });
        }
        for (&value, inferred) in declared.iter().zip(outputs) {
            let data = &f[value];
            if !inferred.ty.agrees(&data.ty) {
                self.error(Rule::Type, || {
                    format!("output `{}` is {}; it is declared as {}", data.name, inferred.ty, data.ty)
                });
            } else {
                self.size(&inferred.ty, &data.name);
                self.facts.set(value, inferred);
            }
        }
    }

    fn used(&mut self, value: ValueId, by: &str) {
        let f = self.function;
        if !f.has_value(value) {
            self.error(Rule::Structure, || {
                format!("`{by}` is bound to value number {}, which does not exist", value.index())
            });
        } else if !self.visible[value.index()] {
            let name = &f[value].name;
            self.error(Rule::Scope, || format!("`{by}` uses `{name}`, which is not defined here"));
        }
    }

    fn define(&mut self, value: ValueId, def: Def) {
        let f = self.function;
        if !f.has_value(value) {
            return self.error(Rule::Structure, || format!("value number {} does not exist", value.index()));
        }
        let data = &f[value];
        if data.def != def || self.visible[value.index()] {
            return self.error(Rule::Structure, || format!("`{}` is not defined where it says", data.name));
        }
        if data.name.is_empty() {
            self.error(Rule::Name, || "a value has no name".into());
        } else if !self.names.insert(&data.name) {
            let hint = "names are unique among the values of a block and of those around it".to_owned();
            self.error_with(Rule::Name, Some(hint), || format!("the name `{}` is used twice", data.name));
        }
        if matches!(data.ty, Type::State(_)) && !matches!(def, Def::Function(_)) {
            self.error(Rule::State, || format!("the state `{}` is not an input of the function", data.name));
        }
        self.size(&data.ty, &data.name);
        self.visible[value.index()] = true;
        self.trail.push(value);
    }

    fn size(&mut self, ty: &Type, name: &str) {
        if !size_fits(ty) {
            self.error(Rule::Size, || {
                format!("`{name}` is too large: more than {MAX_ELEMENTS} elements or {MAX_RANK} dimensions")
            });
        }
    }

    fn error(&mut self, rule: Rule, message: impl FnOnce() -> String) {
        self.error_with(rule, None, message);
    }

    fn error_with(&mut self, rule: Rule, hint: Option<String>, message: impl FnOnce() -> String) {
        let f = self.function;
        let op = self.at.map(|id| (f[id].kind, op_name(f, id)));
        self.errors.push(rule, self.name, op, hint, message);
    }
}

/// Returns the op's name in the source, or its first output's name.
fn op_name(function: &Function, id: OpId) -> &str {
    let op = &function[id];
    match (op.name(), op.outputs.first()) {
        ("", Some(&v)) if function.has_value(v) => &function[v].name,
        (name, _) => name,
    }
}

/// Returns a hint that lists the op's parameters.
fn takes(kind: OpKind, version: &Version) -> String {
    let param = |p: &Param| match p.default {
        Default::Required => p.name.to_owned(),
        _ => format!("{}?", p.name),
    };
    let params: Vec<String> = version.params().map(param).collect();
    match params.is_empty() {
        true => format!("`{}` takes no parameters", kind.name()),
        false => format!("`{}` takes {}", kind.name(), params.join(", ")),
    }
}

/// Tests what text cannot express. `tests/verify/*.mil` test the other rules.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Input, Opset};

    fn program(function: Function) -> Program {
        Program { functions: [("main".to_owned(), function)].into(), ..Program::default() }
    }

    fn rules(function: Function) -> Vec<Rule> {
        match check(&program(function)) {
            Ok(()) => Vec::new(),
            Err(errors) => {
                assert!(!errors.to_string().is_empty());
                errors.errors().iter().map(VerifyError::rule).collect()
            }
        }
    }

    fn concat(f: &mut Function, block: BlockId, x: ValueId, name: &str) -> OpId {
        let inputs = vec![Input::values("values", [x]), Input::constant("axis", Value::int(0))];
        f.push_op(block, OpKind::Concat, inputs, [(name.to_owned(), Type::tensor(DType::Fp32, &[2]))])
    }

    fn identity() -> (Function, OpId) {
        let mut f = Function::new(Opset::Ios15);
        let x = f.add_input("x", Type::tensor(DType::Fp32, &[2]));
        let body = f.body;
        let op = concat(&mut f, body, x, "y");
        let y = f[op].outputs[0];
        f[body].outputs.push(y);
        (f, op)
    }

    #[test]
    fn a_good_program_is_checked() {
        let (f, _) = identity();
        assert_eq!(verify(program(f)).unwrap().functions.len(), 1);
        assert!(check(&Program::default()).is_err());
    }

    #[test]
    fn an_op_has_one_place() {
        let (mut f, op) = identity();
        let body = f.body;
        f[body].ops.push(op);
        assert_eq!(rules(f), [Rule::Structure]);
    }

    #[test]
    fn ids_are_of_the_function() {
        let (mut f, op) = identity();
        let mut other = f.clone();
        let stranger = other.add_input("stranger", Type::scalar(DType::Fp32));
        f[op].inputs[0].args = vec![Arg::Value(stranger)];
        assert_eq!(rules(f), [Rule::Structure]);

        let (mut f, _) = identity();
        let block = other.add_block();
        f.body = block;
        assert_eq!(rules(f), [Rule::Structure]);

        let (mut f, op) = identity();
        let input = f.inputs[0];
        f[op].outputs = vec![input];
        assert!(rules(f).contains(&Rule::Structure));
    }

    #[test]
    fn blocks_neither_cycle_nor_nest_too_deep() {
        let (mut f, op) = identity();
        let body = f.body;
        f[op].blocks.push(body);
        assert!(rules(f).contains(&Rule::Structure));

        let (mut f, mut op) = identity();
        let x = f.inputs[0];
        for i in 0..100_000 {
            let block = f.add_block();
            f[op].blocks.push(block);
            op = concat(&mut f, block, x, &format!("y{i}"));
        }
        assert!(rules(f).contains(&Rule::Structure));
    }

    #[test]
    fn errors_are_capped() {
        let (mut f, op) = identity();
        let body = f.body;
        f[body].ops.extend(std::iter::repeat_n(op, MAX_ERRORS + 23));
        let errors = check(&program(f)).unwrap_err();
        assert_eq!((errors.errors().len(), errors.omitted()), (MAX_ERRORS, 23));
        assert!(errors.to_string().ends_with("and 23 more"));
    }
}
