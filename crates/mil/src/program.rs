//! Programs, functions, blocks and ops, in arenas with typed ids.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};

use indexmap::IndexMap;

use crate::{OpKind, Opset, Type, Value};

/// Named constants attached to a program, function, block or op, in file order.
pub type Attributes = IndexMap<String, Value>;

/// An ML program.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Functions by name, in file order. A model's default function is usually `main`.
    pub functions: IndexMap<String, Function>,
    /// Attributes of the program, such as `buildInfo`.
    pub attributes: Attributes,
}

/// A function: inputs, a body block, and the arenas of its values, ops and blocks.
#[derive(Clone, Debug)]
pub struct Function {
    /// The opset, which chooses the version of each op.
    pub opset: Opset,
    /// The inputs, in declared order.
    pub inputs: Vec<ValueId>,
    /// The block that runs.
    pub body: BlockId,
    /// Attributes of the function, such as `FlexibleShapeInformation`.
    pub attributes: Attributes,
    values: Vec<ValueData>,
    ops: Vec<Op>,
    blocks: Vec<Block>,
}

/// A sequence of ops. It has outputs and, in control flow, inputs of its own.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Values that the enclosing op binds, such as a loop's variables.
    pub inputs: Vec<ValueId>,
    /// The ops, in order of execution.
    pub ops: Vec<OpId>,
    /// The results.
    pub outputs: Vec<ValueId>,
    /// Attributes of the block.
    pub attributes: Attributes,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Op {
    /// The kind of operation.
    pub kind: OpKind,
    /// Named inputs, in file order.
    pub inputs: Vec<Input>,
    /// The results.
    pub outputs: Vec<ValueId>,
    /// Nested blocks, for control flow.
    pub blocks: Vec<BlockId>,
    /// Attributes: `name`, and `val` for `const`.
    pub attributes: Attributes,
}

/// A named input of an op.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The parameter's name.
    pub name: String,
    /// The arguments bound to it: one, or several for a variadic parameter.
    pub args: Vec<Arg>,
}

/// An argument bound to a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// A value of the function.
    Value(ValueId),
    /// An immediate constant.
    Const(Value),
}

/// A value: its name, its declared type, and its definition.
#[derive(Clone, Debug)]
pub struct ValueData {
    /// The name in the file. Values that are visible together have different names.
    pub name: String,
    /// The declared type.
    pub ty: Type,
    /// Where it is defined.
    pub def: Def,
}

/// The definition of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Def {
    /// Input number `.0` of the function.
    Function(usize),
    /// Input number `.1` of a nested block.
    Block(BlockId, usize),
    /// Output number `.1` of an op.
    Op(OpId, usize),
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
            pub struct $name(u32);

            impl $name {
                /// The position in the function's arena.
                pub const fn index(self) -> usize {
                    self.0 as usize
                }

                fn new(index: usize) -> $name {
                    $name(u32::try_from(index).expect("a function has fewer than 2^32 entities"))
                }
            }
        )*
    };
}

ids! {
    /// The id of a value in a function.
    ValueId,
    /// The id of an op in a function.
    OpId,
    /// The id of a block in a function.
    BlockId
}

impl Function {
    /// A function without inputs and with an empty body.
    pub fn new(opset: Opset) -> Function {
        Function {
            opset,
            inputs: Vec::new(),
            body: BlockId(0),
            attributes: Attributes::new(),
            values: Vec::new(),
            ops: Vec::new(),
            blocks: vec![Block::default()],
        }
    }

    /// Adds an input to the function.
    pub fn add_input(&mut self, name: impl Into<String>, ty: Type) -> ValueId {
        let id = self.add_value(name.into(), ty, Def::Function(self.inputs.len()));
        self.inputs.push(id);
        id
    }

    /// Adds an empty block, which an op can then nest.
    pub fn add_block(&mut self) -> BlockId {
        let id = BlockId::new(self.blocks.len());
        self.blocks.push(Block::default());
        id
    }

    /// Adds an input to a nested block.
    pub fn add_block_input(&mut self, block: BlockId, name: impl Into<String>, ty: Type) -> ValueId {
        let id = self.add_value(name.into(), ty, Def::Block(block, self[block].inputs.len()));
        self[block].inputs.push(id);
        id
    }

    /// Makes an op with new outputs of the given names and types. The op is in no block yet.
    pub fn make_op(
        &mut self,
        kind: OpKind,
        inputs: Vec<Input>,
        outputs: impl IntoIterator<Item = (String, Type)>,
    ) -> OpId {
        let id = OpId::new(self.ops.len());
        self.ops.push(Op {
            kind,
            inputs,
            outputs: Vec::new(),
            blocks: Vec::new(),
            attributes: Attributes::new(),
        });
        for (i, (name, ty)) in outputs.into_iter().enumerate() {
            let value = self.add_value(name, ty, Def::Op(id, i));
            self[id].outputs.push(value);
        }
        id
    }

    /// Like [`make_op`](Function::make_op), and appends the op to a block.
    pub fn push_op(
        &mut self,
        block: BlockId,
        kind: OpKind,
        inputs: Vec<Input>,
        outputs: impl IntoIterator<Item = (String, Type)>,
    ) -> OpId {
        let id = self.make_op(kind, inputs, outputs);
        self[block].ops.push(id);
        id
    }

    /// Adds an output to an op.
    pub(crate) fn add_output(&mut self, op: OpId, name: String, ty: Type) -> ValueId {
        let value = self.add_value(name, ty, Def::Op(op, self[op].outputs.len()));
        self[op].outputs.push(value);
        value
    }

    /// Makes a `const` op of the given name, which is in no block yet, and returns it and its output.
    pub fn make_const(&mut self, name: impl Into<String>, value: Value) -> (OpId, ValueId) {
        let name = name.into();
        let op = self.make_op(OpKind::Const, Vec::new(), [(name.clone(), value.ty())]);
        self[op].attributes.insert("name".into(), Value::string(name));
        self[op].attributes.insert("val".into(), value);
        (op, self[op].outputs[0])
    }

    /// The value of the constant, if a `const` op defines it.
    pub fn const_value(&self, value: ValueId) -> Option<&Value> {
        match self[value].def {
            Def::Op(op, _) if self[op].kind == OpKind::Const => self[op].attributes.get("val"),
            _ => None,
        }
    }

    /// The op that defines a value, if one does.
    pub fn defining_op(&self, value: ValueId) -> Option<OpId> {
        match self[value].def {
            Def::Op(op, _) => Some(op),
            _ => None,
        }
    }

    /// Iterates over all values, used or not.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, &ValueData)> {
        self.values.iter().enumerate().map(|(i, v)| (ValueId::new(i), v))
    }

    /// The number of values, used or not. An id's index is less than it.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// The number of ops, in a block or not. An id's index is less than it.
    pub fn op_count(&self) -> usize {
        self.ops.len()
    }

    /// The number of blocks, within reach or not. An id's index is less than it.
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Whether the id is in range.
    pub fn has_value(&self, id: ValueId) -> bool {
        id.index() < self.values.len()
    }

    /// Whether the id is in range.
    pub fn has_op(&self, id: OpId) -> bool {
        id.index() < self.ops.len()
    }

    /// Returns every op in the body and its nested blocks, in order of execution. An op comes before the ops of its own
    /// blocks.
    pub fn walk(&self) -> Vec<OpId> {
        let mut ops = Vec::new();
        let mut stack = vec![self[self.body].ops.iter()];
        while let Some(top) = stack.last_mut() {
            match top.next() {
                Some(&op) => {
                    ops.push(op);
                    stack.extend(self[op].blocks.iter().rev().map(|&b| self[b].ops.iter()));
                }
                None => {
                    stack.pop();
                }
            }
        }
        ops
    }

    /// Replaces every use of `from` by `to`: op inputs and block outputs.
    pub fn replace_uses(&mut self, from: ValueId, to: ValueId) {
        self.replace_all_uses(&HashMap::from([(from, to)]));
    }

    /// Replaces uses of each key by its value, in one pass. Does not follow chains.
    pub fn replace_all_uses(&mut self, map: &HashMap<ValueId, ValueId>) {
        let swap = |v: &mut ValueId| {
            if let Some(&to) = map.get(v) {
                *v = to;
            }
        };
        for op in &mut self.ops {
            for arg in op.inputs.iter_mut().flat_map(|i| &mut i.args) {
                if let Arg::Value(v) = arg {
                    swap(v);
                }
            }
        }
        self.blocks.iter_mut().flat_map(|b| &mut b.outputs).for_each(swap);
    }

    /// The inputs by name.
    pub fn inputs_by_name(&self) -> HashMap<&str, ValueId> {
        // Of several of one name, the first.
        self.inputs.iter().rev().map(|&input| (self[input].name.as_str(), input)).collect()
    }

    /// Returns for every value, by index, how often the ops and blocks within reach of the body use it.
    pub fn use_counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.values.len()];
        let mut count = |v: ValueId| counts[v.index()] += 1;
        self[self.body].outputs.iter().copied().for_each(&mut count);
        for id in self.walk() {
            let op = &self[id];
            op.values().for_each(&mut count);
            op.blocks.iter().flat_map(|&b| self[b].outputs.iter().copied()).for_each(&mut count);
        }
        counts
    }

    /// Frees the values, ops and blocks that are out of reach of the body, and renumbers the others in order. Older ids
    /// become invalid. The function must be well formed, as the verifier checks.
    pub(crate) fn compact(&mut self) {
        let ops = self.walk();
        let mut blocks = vec![self.body];
        blocks.extend(ops.iter().flat_map(|&op| self[op].blocks.iter().copied()));
        let mut values = self.inputs.clone();
        values.extend(blocks.iter().flat_map(|&b| self[b].inputs.iter().copied()));
        values.extend(ops.iter().flat_map(|&op| self[op].outputs.iter().copied()));

        let positions = |ids: &mut dyn Iterator<Item = usize>, count: usize| {
            let mut new = vec![0; count];
            ids.enumerate().for_each(|(i, id)| new[id] = i);
            new
        };
        let new_value = positions(&mut values.iter().map(|v| v.index()), self.values.len());
        let new_op = positions(&mut ops.iter().map(|o| o.index()), self.ops.len());
        let new_block = positions(&mut blocks.iter().map(|b| b.index()), self.blocks.len());
        let value = |v: &mut ValueId| *v = ValueId::new(new_value[v.index()]);
        let op = |o: &mut OpId| *o = OpId::new(new_op[o.index()]);
        let block = |b: &mut BlockId| *b = BlockId::new(new_block[b.index()]);

        self.values = pick(std::mem::take(&mut self.values), values.iter().map(|v| v.index()));
        for data in &mut self.values {
            match &mut data.def {
                Def::Function(_) => {}
                Def::Block(b, _) => block(b),
                Def::Op(o, _) => op(o),
            }
        }
        self.ops = pick(std::mem::take(&mut self.ops), ops.iter().map(|o| o.index()));
        for data in &mut self.ops {
            for arg in data.inputs.iter_mut().flat_map(|i| &mut i.args) {
                if let Arg::Value(v) = arg {
                    value(v);
                }
            }
            data.outputs.iter_mut().for_each(value);
            data.blocks.iter_mut().for_each(block);
        }
        self.blocks = pick(std::mem::take(&mut self.blocks), blocks.iter().map(|b| b.index()));
        for data in &mut self.blocks {
            data.inputs.iter_mut().for_each(value);
            data.ops.iter_mut().for_each(op);
            data.outputs.iter_mut().for_each(value);
        }
        self.inputs.iter_mut().for_each(value);
        block(&mut self.body);
    }

    fn add_value(&mut self, name: String, ty: Type, def: Def) -> ValueId {
        let id = ValueId::new(self.values.len());
        self.values.push(ValueData { name, ty, def });
        id
    }
}

impl Op {
    /// The op's `name` attribute; empty if it has none.
    pub fn name(&self) -> &str {
        self.attributes.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    /// The arguments bound to a parameter; empty if it is not bound.
    pub fn args(&self, name: &str) -> &[Arg] {
        self.inputs.iter().find(|i| i.name == name).map_or(&[], |i| &i.args)
    }

    /// The value bound to a parameter, if it is a single value.
    pub fn value(&self, name: &str) -> Option<ValueId> {
        match self.args(name) {
            [Arg::Value(v)] => Some(*v),
            _ => None,
        }
    }

    /// Iterates over the values that the op itself (not its blocks) uses, with repetitions.
    pub fn values(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs.iter().flat_map(|i| &i.args).filter_map(|a| match a {
            Arg::Value(v) => Some(*v),
            Arg::Const(_) => None,
        })
    }
}

impl Input {
    /// Binds one value to a parameter.
    pub fn value(name: impl Into<String>, value: ValueId) -> Input {
        Input { name: name.into(), args: vec![Arg::Value(value)] }
    }

    /// Binds an immediate constant to a parameter.
    pub fn constant(name: impl Into<String>, value: impl Into<Value>) -> Input {
        Input { name: name.into(), args: vec![Arg::Const(value.into())] }
    }

    /// Binds several values to a variadic parameter.
    pub fn values(name: impl Into<String>, values: impl IntoIterator<Item = ValueId>) -> Input {
        Input { name: name.into(), args: values.into_iter().map(Arg::Value).collect() }
    }
}

/// Takes the items at these positions, in this order.
fn pick<T>(items: Vec<T>, positions: impl Iterator<Item = usize>) -> Vec<T> {
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    positions.filter_map(|i| items[i].take()).collect()
}

macro_rules! index {
    ($($id:ident $field:ident $data:ty),*) => {
        $(
            impl Index<$id> for Function {
                type Output = $data;
                fn index(&self, id: $id) -> &$data {
                    &self.$field[id.index()]
                }
            }
            impl IndexMut<$id> for Function {
                fn index_mut(&mut self, id: $id) -> &mut $data {
                    &mut self.$field[id.index()]
                }
            }
        )*
    };
}
index!(ValueId values ValueData, OpId ops Op, BlockId blocks Block);

/// A map from the values of one function to items, stored as a vector.
#[derive(Clone, Debug)]
pub struct ValueMap<T> {
    items: Vec<T>,
    default: T,
}

impl<T: Clone> ValueMap<T> {
    /// Makes a map that holds `default` for every value.
    pub fn new(default: T) -> ValueMap<T> {
        ValueMap { items: Vec::new(), default }
    }
}

impl<T> Index<ValueId> for ValueMap<T> {
    type Output = T;
    fn index(&self, id: ValueId) -> &T {
        self.items.get(id.index()).unwrap_or(&self.default)
    }
}

impl<T: Clone> IndexMut<ValueId> for ValueMap<T> {
    fn index_mut(&mut self, id: ValueId) -> &mut T {
        if id.index() >= self.items.len() {
            self.items.resize(id.index() + 1, self.default.clone());
        }
        &mut self.items[id.index()]
    }
}
