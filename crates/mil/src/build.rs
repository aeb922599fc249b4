//! A builder for functions: adds ops one by one, infers types, and makes names unique.

use std::collections::HashSet;

use crate::infer::Facts;
use crate::ops::{ArgView, Effect, InferError, Inferred, Known, OpView};
use crate::types::size_fits;
use crate::{
    BlockId, Evaluate, Function, Input, Op, OpId, OpKind, Opset, Tensor, TensorType, Type, Value, ValueId,
};

/// A function under construction.
///
/// ```
/// use milwright_mil::build::Builder;
/// use milwright_mil::{DType, Input, OpKind, Opset, Program, Type, verify};
///
/// let mut builder = Builder::new(Opset::Ios15);
/// let x = builder.input("x", Type::tensor(DType::Fp32, &[2, 3]));
/// let y = builder.op(OpKind::Relu, "y", vec![Input::value("x", x)])?[0];
/// assert_eq!(builder.ty(y).to_string(), "tensor<fp32, [2, 3]>");
///
/// let mut program = Program::default();
/// program.functions.insert("main".into(), builder.finish(vec![y]));
/// assert!(verify(program).is_ok());
/// # Ok::<(), milwright_mil::ops::InferError>(())
/// ```
#[derive(Debug)]
pub struct Builder {
    function: Function,
    facts: Facts,
    /// The block that ops are added to.
    block: BlockId,
    names: HashSet<String>,
    /// The last number that was appended to make a name unique.
    number: usize,
    /// Constants that are defined before everything else, so that every block sees them.
    first: Vec<OpId>,
    engine: Engine,
}

/// What runs ops on constants, if anything does.
#[derive(Clone, Copy, Default)]
struct Engine(Option<&'static (dyn Evaluate + Sync)>);

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "an engine" } else { "none" })
    }
}

/// An op on constants becomes constants if they have at most this many elements together: it is for shapes and small
/// tables, and must not copy weights.
const MAX_FOLDED: usize = 1 << 16;

impl Builder {
    /// A function without inputs or ops.
    pub fn new(opset: Opset) -> Builder {
        let function = Function::new(opset);
        let block = function.body;
        Builder {
            function,
            facts: Facts::new(),
            block,
            names: HashSet::new(),
            number: 0,
            first: Vec::new(),
            engine: Engine::default(),
        }
    }

    /// From now on, ops whose inputs are known become constants, which this engine computes, unless they are large.
    pub fn fold_with(&mut self, engine: &'static (dyn Evaluate + Sync)) {
        self.engine = Engine(Some(engine));
    }

    /// The opset of the function.
    pub fn opset(&self) -> Opset {
        self.function.opset
    }

    /// Reserves a name for [`rename`](Builder::rename): other values of that name get another one.
    pub fn reserve(&mut self, name: impl Into<String>) {
        self.names.insert(name.into());
    }

    /// Adds an input of exactly this name, which must be free.
    pub fn input(&mut self, name: impl Into<String>, ty: Type) -> ValueId {
        let name = name.into();
        self.names.insert(name.clone());
        self.function.add_input(name, ty)
    }

    /// Gives a value exactly this name, which must be reserved and not yet in use.
    pub fn rename(&mut self, value: ValueId, name: impl Into<String>) {
        let name = name.into();
        if let Some(op) = self.function.defining_op(value)
            && self.function[op].outputs.first() == Some(&value)
        {
            self.function[op].attributes.insert("name".into(), Value::string(name.clone()));
        }
        self.function[value].name = name;
    }

    /// Adds a `const` op.
    pub fn constant(&mut self, name: &str, value: impl Into<Value>) -> ValueId {
        let (op, output) = self.make_constant(name, value.into());
        self.function[self.block].ops.push(op);
        output
    }

    /// Adds a `const` op before all others, where every block sees it.
    pub fn constant_for_all(&mut self, name: &str, value: impl Into<Value>) -> ValueId {
        let (op, output) = self.make_constant(name, value.into());
        self.first.push(op);
        output
    }

    fn make_constant(&mut self, name: &str, value: Value) -> (OpId, ValueId) {
        let name = self.unique(name);
        let inferred = Inferred { ty: value.ty(), known: Some(Known::Value(value.clone())) };
        let (op, output) = self.function.make_const(name, value);
        self.facts.set(output, inferred);
        (op, output)
    }

    /// Adds an op, and returns its outputs. The first output gets the name `name`, or a similar one if `name` is taken.
    ///
    /// # Errors
    /// The inputs do not fit the op.
    pub fn op(&mut self, kind: OpKind, name: &str, inputs: Vec<Input>) -> Result<Vec<ValueId>, InferError> {
        self.op_with_blocks(kind, name, inputs, Vec::new())
    }

    /// Like [`op`](Builder::op), with nested blocks, which [`enter`](Builder::enter) made.
    ///
    /// # Errors
    /// Inputs or blocks do not fit the op.
    pub fn op_with_blocks(
        &mut self,
        kind: OpKind,
        name: &str,
        inputs: Vec<Input>,
        blocks: Vec<BlockId>,
    ) -> Result<Vec<ValueId>, InferError> {
        let op: OpId = self.function.make_op(kind, inputs, []);
        self.function[op].blocks = blocks;
        let view = self.facts.view(&self.function, op)?;
        // Some ops compute with sizes as signed numbers.
        if let Some((name, _)) = view.args.iter().find(|(_, args)| args.iter().any(|a| !size_fits(&a.ty))) {
            return Err(InferError(format!("its input `{name}` is too large")));
        }
        let outputs = kind.infer(&view)?;
        if let Some(tensors) = self.engine.fold(&view, &outputs) {
            let parts = tensors.len();
            let numbered = |i: usize| if parts == 1 { name.to_owned() } else { format!("{name}_{i}") };
            return Ok(tensors
                .into_iter()
                .enumerate()
                .map(|(i, t)| self.constant(&numbered(i), t))
                .collect());
        }
        let name = self.unique(name);
        self.function[op].attributes.insert("name".into(), Value::string(name.clone()));
        for (i, inferred) in outputs.into_iter().enumerate() {
            let name = if i == 0 { name.clone() } else { self.unique(&format!("{name}_{i}")) };
            let value = self.function.add_output(op, name, inferred.ty.clone());
            self.facts.set(value, inferred);
        }
        self.function[self.block].ops.push(op);
        Ok(self.function[op].outputs.clone())
    }

    /// Starts a nested block: ops are added to it until [`leave`](Builder::leave). Returns the new block and the block
    /// that ops were added to before.
    pub fn enter(&mut self) -> (BlockId, BlockId) {
        let block = self.function.add_block();
        (block, std::mem::replace(&mut self.block, block))
    }

    /// Adds an input to the nested block that ops are added to.
    pub fn block_input(&mut self, name: &str, ty: Type) -> ValueId {
        let name = self.unique(name);
        self.function.add_block_input(self.block, name, ty)
    }

    /// Ends a nested block: ops are added to `outer` again.
    pub fn leave(&mut self, outer: BlockId, outputs: Vec<ValueId>) {
        let block = std::mem::replace(&mut self.block, outer);
        self.function[block].outputs = outputs;
    }

    /// Adds ops to this block from now on: to a nested block that was left, or to the block around it. Returns the block
    /// that ops were added to before.
    pub fn resume(&mut self, block: BlockId) -> BlockId {
        std::mem::replace(&mut self.block, block)
    }

    /// Replaces the outputs of a nested block that no op has yet.
    pub fn set_outputs(&mut self, block: BlockId, outputs: Vec<ValueId>) {
        self.function[block].outputs = outputs;
    }

    /// The type of a value.
    pub fn ty(&self, value: ValueId) -> &Type {
        self.facts.ty(&self.function, value)
    }

    /// The op that a value is an output of, if it is one of an op.
    pub fn defining_op(&self, value: ValueId) -> Option<&Op> {
        self.function.defining_op(value).map(|op| &self.function[op])
    }

    /// Whether a value is an input of the function.
    pub fn is_input(&self, value: ValueId) -> bool {
        self.function.inputs.contains(&value)
    }

    /// The type of a value, if it is a tensor.
    pub fn tensor_type(&self, value: ValueId) -> Option<&TensorType> {
        self.ty(value).as_tensor()
    }

    /// The elements of an integer vector or scalar, each `None` if it is not known; `None` for other values.
    pub fn partial(&self, value: ValueId) -> Option<Vec<Option<i64>>> {
        let ty = std::borrow::Cow::Borrowed(self.ty(value));
        ArgView { ty, known: self.facts.known(value).map(std::borrow::Cow::Borrowed) }.partial()
    }

    /// The value's tensor, if it is known.
    pub fn known(&self, value: ValueId) -> Option<&Tensor> {
        self.facts.value(value)?.as_tensor()
    }

    /// Returns the finished function, with these outputs.
    pub fn finish(mut self, outputs: Vec<ValueId>) -> Function {
        let body = self.function.body;
        self.function[body].outputs = outputs;
        self.function[body].ops.splice(0..0, self.first);
        self.function.compact();
        self.function
    }

    fn unique(&mut self, name: &str) -> String {
        let mut candidate = name.to_owned();
        while !self.names.insert(candidate.clone()) {
            self.number += 1;
            candidate = format!("{name}_{}", self.number);
        }
        candidate
    }
}

impl Engine {
    /// Runs an op whose inputs are all known, if it has no effect and its results are small.
    fn fold(self, op: &OpView<'_>, outputs: &[Inferred]) -> Option<Vec<Tensor>> {
        let engine = self.0?;
        let arguments = || op.args.iter().flat_map(|(_, args)| args);
        let all_known = arguments().all(|a| a.value().is_some_and(|v| v.as_tensor().is_some()));
        let has_blocks = matches!(op.kind, OpKind::Cond | OpKind::WhileLoop);
        let pure = op.kind.effect() == Effect::None && !has_blocks;
        if !all_known || !pure || op.kind.is_constexpr() {
            return None;
        }
        let sizes = outputs.iter().map(|o| o.ty.as_tensor()?.elements());
        // A size that depends on the elements is about that of the inputs.
        let size = sizes
            .sum::<Option<usize>>()
            .or_else(|| arguments().map(|a| a.ty.as_tensor()?.elements()).sum::<Option<usize>>());
        size.filter(|&n| n <= MAX_FOLDED)?;
        let types: Vec<Type> = outputs.iter().map(|o| o.ty.clone()).collect();
        engine.evaluate(op, &types).ok()
    }
}
