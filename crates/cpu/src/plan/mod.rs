//! A compiled function: which steps run, in which order, in which memory. Plain data: see [`mod@file`] for its bytes.
//!
//! Values are numbered across the function and its nested blocks. Each has a place: an input, a constant, a range of
//! the arena, or a slot if its size is only known at run time. Nested blocks (branches and loop bodies) use the same arena
//! as the body. A loop's variable is one range of it, which the loop's blocks and its result share; a step of the body
//! may update it in place.

mod file;

use bytes::Bytes;
use milwright_mil::{DType, Dim, OpKind, Opset, Tensor, TensorType, Type};
use serde::{Deserialize, Serialize};

/// A compiled function for one set of input shapes and one kind of machine.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) graph: Graph,
    /// Constants and packed weights; ranges of it start at multiples of 64.
    pub(crate) data: Bytes,
}

/// A plan without its weights.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Graph {
    pub function: String,
    /// The opset's text name.
    pub opset: String,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub states: Vec<Port>,
    pub values: Vec<Value>,
    pub constants: Vec<Constant>,
    pub body: Vec<Step>,
    /// Bytes of the arena.
    pub arena: u64,
    /// How many slots there are.
    pub slots: u32,
}

/// A value that enters or leaves the function.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Port {
    pub name: String,
    pub value: ValueNo,
}

/// Declares the numbers of things in a plan. Each is an index with a type of its own.
macro_rules! numbers {
    ($($(#[doc = $doc:literal])* $name:ident)*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
            #[serde(transparent)]
            pub(crate) struct $name(pub u32);

            impl $name {
                pub fn index(self) -> usize {
                    self.0 as usize
                }
            }
        )*
    };
}

numbers! {
    /// The number of a value: its index in [`Graph::values`].
    ValueNo
    /// The number of an input: its index in [`Graph::inputs`].
    InputNo
    /// The number of a state: its index in [`Graph::states`].
    StateNo
    /// The number of a constant: its index in [`Graph::constants`].
    ConstantNo
    /// The number of a slot, which holds a whole tensor or list during a run.
    SlotNo
}

/// Lets lists be indexed by the numbers of what they hold.
macro_rules! index_by_number {
    ($($number:ident: [$value:ty];)*) => {
        $(
            impl std::ops::Index<$crate::plan::$number> for [$value] {
                type Output = $value;

                fn index(&self, number: $crate::plan::$number) -> &$value {
                    &self[number.index()]
                }
            }

            impl std::ops::IndexMut<$crate::plan::$number> for [$value] {
                fn index_mut(&mut self, number: $crate::plan::$number) -> &mut $value {
                    &mut self[number.index()]
                }
            }

            impl std::ops::Index<$crate::plan::$number> for Vec<$value> {
                type Output = $value;

                fn index(&self, number: $crate::plan::$number) -> &$value {
                    &self[number.index()]
                }
            }

            impl std::ops::IndexMut<$crate::plan::$number> for Vec<$value> {
                fn index_mut(&mut self, number: $crate::plan::$number) -> &mut $value {
                    &mut self[number.index()]
                }
            }
        )*
    };
}
pub(crate) use index_by_number;

index_by_number! {
    ValueNo: [Value];
    StateNo: [Port];
    ConstantNo: [Constant];
}

/// A value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Value {
    pub ty: Ty,
    pub place: Place,
}

/// The type of a value, as [`Type`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Ty {
    /// The element type by its position in [`DType::ALL`], and the shape.
    Tensor(u8, Vec<Option<u64>>),
    List(Box<Ty>, Option<u64>),
    State(Box<Ty>),
}

/// The place of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// No place: the value never leaves a fused step.
    Fused,
    /// The input with this number.
    Input(InputNo),
    /// The state with this number.
    State(StateNo),
    /// The constant with this number.
    Constant(ConstantNo),
    /// The arena, from this byte.
    Arena(u64),
    /// The slot with this number, which holds a whole tensor or list.
    Slot(SlotNo),
}

/// A constant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Constant {
    /// A small one: position of its element type in [`DType::ALL`], shape, bytes.
    Inline(u8, Vec<u64>, Vec<u8>),
    /// One in the data section, from this byte.
    Data(u8, Vec<u64>, u64),
    /// Strings.
    Strings(Vec<u64>, Vec<String>),
    /// A constant that exists in packed form only: just its type is kept.
    Packed(u8, Vec<u64>),
    /// A list, tuple or dictionary, which no step reads.
    Other,
}

/// One step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    /// The name of the op; of fused ops, that of the last.
    pub name: String,
    pub work: Work,
    /// Scratch memory: its start in the arena and its length.
    pub scratch: (u64, u64),
}

/// What a step does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Runs an op, then element-wise ops on its result.
    Op { op: Node, epilogue: Vec<Node> },
    /// Runs element-wise ops block by block.
    Chain(Vec<Node>),
    /// Runs an op whose shapes are only known at run time.
    Late(Node),
    /// `cond`: runs one of two blocks.
    Cond { pred: ValueNo, branches: [Block; 2], outputs: Vec<ValueNo> },
    /// `while_loop`: runs `body` as long as `cond` returns true.
    While { init: Vec<ValueNo>, cond: Block, body: Block, outputs: Vec<ValueNo> },
    /// `read_state`: copies a state into a value.
    ReadState { state: ValueNo, output: ValueNo },
    /// `write_state`: copies a value into a state.
    WriteState { state: ValueNo, value: ValueNo },
}

/// The steps of a nested block.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Block {
    pub inputs: Vec<ValueNo>,
    pub steps: Vec<Step>,
    pub outputs: Vec<ValueNo>,
}

/// An op.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    #[serde(with = "by_name")]
    pub kind: OpKind,
    /// Parameters and the values bound to them.
    pub args: Vec<(String, Vec<ValueNo>)>,
    pub outputs: Vec<ValueNo>,
    pub packed: Option<PackedData>,
    /// Half-precision constants that the op reads in single precision: the slot, and the number of the widened
    /// constant.
    pub widened: Vec<(u32, ValueNo)>,
}

/// Writes a kind of op as its name in MIL, which stays the same when the table of ops grows.
mod by_name {
    use milwright_mil::OpKind;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(kind: &OpKind, serializer: S) -> Result<S::Ok, S::Error> {
        kind.name().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OpKind, D::Error> {
        let name = String::deserialize(deserializer)?;
        OpKind::from_name(&name).ok_or_else(|| D::Error::custom(format!("there is no op `{name}`")))
    }
}

/// The place of an op's packed constants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PackedData {
    pub params: Vec<u64>,
    pub offset: u64,
    pub len: u64,
    pub slots: Vec<u32>,
}

/// A tensor that enters or leaves a compiled function.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// The type. Dimensions that depend on data are unknown.
    pub ty: Type,
}

impl Plan {
    /// The function's name.
    pub fn function(&self) -> &str {
        &self.graph.function
    }

    /// The inputs, in declared order, without states.
    pub fn inputs(&self) -> Vec<Feature> {
        self.features(&self.graph.inputs)
    }

    /// The outputs, in declared order.
    pub fn outputs(&self) -> Vec<Feature> {
        self.features(&self.graph.outputs)
    }

    /// The states, in declared order.
    pub fn states(&self) -> Vec<Feature> {
        self.features(&self.graph.states)
    }

    /// The number of steps in the body; branches and loops count as one step each.
    pub fn steps(&self) -> usize {
        self.graph.body.len()
    }

    /// Bytes that one run needs for intermediate results, without values whose size depends on data.
    pub fn arena_bytes(&self) -> u64 {
        self.graph.arena
    }

    /// Bytes of constants and packed weights.
    pub fn weight_bytes(&self) -> u64 {
        self.data.len() as u64
    }

    /// Describes each step in a line: its number, its ops, its name.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (i, step) in self.graph.body.iter().enumerate() {
            text += &format!("{i:4} {} {}\n", step.work.ops(), step.name);
        }
        text
    }

    fn features(&self, ports: &[Port]) -> Vec<Feature> {
        let ty = |p: &Port| self.graph.values[p.value].ty.to_type();
        ports
            .iter()
            .map(|p| Feature { name: p.name.clone(), ty: ty(p).unwrap_or(Type::Tuple(Vec::new())) })
            .collect()
    }
}

impl Work {
    /// The ops in the step, joined by `+`.
    pub fn ops(&self) -> String {
        let join = |nodes: &mut dyn Iterator<Item = &Node>| {
            nodes.map(|n| n.kind.name()).collect::<Vec<_>>().join("+")
        };
        match self {
            Work::Op { op, epilogue } => join(&mut std::iter::once(op).chain(epilogue)),
            Work::Chain(nodes) => join(&mut nodes.iter()),
            Work::Late(node) => format!("late {}", node.kind.name()),
            Work::Cond { .. } => OpKind::Cond.name().into(),
            Work::While { .. } => OpKind::WhileLoop.name().into(),
            Work::ReadState { .. } => OpKind::ReadState.name().into(),
            Work::WriteState { .. } => OpKind::WriteState.name().into(),
        }
    }
}

impl Ty {
    pub fn from_type(ty: &Type) -> Option<Ty> {
        Some(match ty {
            Type::Tensor(t) => {
                Ty::Tensor(dtype_code(t.dtype), t.shape.iter().map(|d| d.fixed().map(|n| n as u64)).collect())
            }
            Type::List(t, n) => Ty::List(Box::new(Ty::from_type(t)?), n.fixed().map(|n| n as u64)),
            Type::State(t) => Ty::State(Box::new(Ty::from_type(t)?)),
            Type::Tuple(_) | Type::Dict(..) => return None,
        })
    }

    pub fn to_type(&self) -> Option<Type> {
        let dim = |n: &Option<u64>| n.and_then(|n| usize::try_from(n).ok()).map_or(Dim::Unknown, Dim::Fixed);
        Some(match self {
            Ty::Tensor(dtype, shape) => {
                Type::Tensor(TensorType::new(dtype_of(*dtype)?, shape.iter().map(dim).collect::<Vec<_>>()))
            }
            Ty::List(t, n) => Type::List(Box::new(t.to_type()?), dim(n)),
            Ty::State(t) => Type::State(Box::new(t.to_type()?)),
        })
    }
}

impl Constant {
    /// Returns the constant's tensor, if it has elements.
    pub fn tensor(&self, data: &Bytes) -> Option<Tensor> {
        let shape = |s: &[u64]| s.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<Vec<_>>>();
        match self {
            Constant::Inline(dtype, s, bytes) => {
                let bytes = crate::memory::aligned(Bytes::copy_from_slice(bytes), crate::memory::ALIGN);
                Tensor::from_bytes(dtype_of(*dtype)?, &shape(s)?, bytes).ok()
            }
            Constant::Data(dtype, s, offset) => {
                let (dtype, shape) = (dtype_of(*dtype)?, shape(s)?);
                let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
                let start = usize::try_from(*offset).ok()?;
                let end = start.checked_add(dtype.byte_len(elements)?)?;
                let bytes = (end <= data.len()).then(|| data.slice(start..end))?;
                Tensor::from_bytes(dtype, &shape, bytes).ok()
            }
            Constant::Strings(s, strings) => Tensor::from_strings(&shape(s)?, strings.clone()).ok(),
            Constant::Packed(..) | Constant::Other => None,
        }
    }
}

impl Graph {
    pub fn opset(&self) -> Option<Opset> {
        Opset::from_name(&self.opset)
    }
}

pub(crate) fn dtype_code(dtype: DType) -> u8 {
    DType::ALL.iter().position(|&d| d == dtype).expect("ALL has every element type") as u8
}

pub(crate) fn dtype_of(code: u8) -> Option<DType> {
    DType::ALL.get(usize::from(code)).copied()
}
