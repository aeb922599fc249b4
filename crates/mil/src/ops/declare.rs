//! How an op is declared.

use super::{InferError, Inferred, OpView};
use crate::{DType, Opset};

/// The declaration of an op: documentation, parameters of every version, type inference.
pub trait OpDef {
    /// What the op computes, for people: Markdown.
    const DOC: &'static str;
    /// Every version, oldest first.
    const VERSIONS: &'static [Version];
    /// What it does besides computing its outputs from its inputs.
    const EFFECT: Effect = Effect::None;

    /// The types of the outputs, and what is known of their elements.
    ///
    /// # Errors
    /// The inputs do not fit each other.
    fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError>;
}

/// What an op does besides computing its outputs from its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it may be folded, shared, or dropped when unused.
    None,
    /// It draws random numbers: not to be folded or shared.
    Random,
    /// It reads or writes a state: it keeps its place, and is not dropped.
    State,
}

/// One version of an op: what an opset made of it.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// The opset that introduced it.
    pub opset: Opset,
    /// The parameters.
    pub params: &'static [Param],
    /// The type variables that parameters share, with the element types that each may be.
    pub types: &'static [(&'static str, &'static [DType])],
}

/// One parameter of an op.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// The name in MIL.
    pub name: &'static str,
    /// What may be bound to it.
    pub kind: Kind,
    /// Whether it must be a constant.
    pub constant: bool,
    /// Whether it takes a list of values.
    pub variadic: bool,
    /// What happens when nothing is bound.
    pub default: Default,
}

/// What may be bound to a parameter.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A tensor whose element type is the type variable of this name.
    Var(&'static str),
    /// A tensor of one of these element types.
    Of(&'static [DType]),
    /// A list.
    List,
    /// A state.
    State,
    /// Anything.
    Any,
}

/// What an unbound parameter means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Default {
    /// It must be bound.
    Required,
    /// It may be absent: the op behaves otherwise then, as its docs say.
    Absent,
    /// This bool.
    Bool(bool),
    /// This int32.
    Int(i32),
    /// This float, in the element type of the parameter.
    Float(f32),
    /// This string.
    Str(&'static str),
    /// This vector of int32.
    Ints(&'static [i32]),
}

/// A parameter that must be bound.
pub const fn required(name: &'static str, kind: Kind) -> Param {
    Param { name, kind, constant: false, variadic: false, default: Default::Required }
}

/// A parameter that need not be bound.
pub const fn optional(name: &'static str, kind: Kind, default: Default) -> Param {
    Param { name, kind, constant: false, variadic: false, default }
}

/// A parameter that takes one or more values.
pub const fn many(name: &'static str, kind: Kind) -> Param {
    Param { name, kind, constant: false, variadic: true, default: Default::Required }
}

impl Param {
    /// The same parameter, which must be a constant.
    pub const fn constant(mut self) -> Param {
        self.constant = true;
        self
    }
}

impl Kind {
    /// A bool tensor or scalar.
    pub const BOOL: Kind = Kind::Of(&[DType::Bool]);
    /// An int32 tensor or scalar.
    pub const INT32: Kind = Kind::Of(&[DType::Int32]);
    /// A string.
    pub const STRING: Kind = Kind::Of(&[DType::String]);
    /// An fp32 tensor or scalar.
    pub const FP32: Kind = Kind::Of(&[DType::Fp32]);
    /// The type variable `T`.
    pub const T: Kind = Kind::Var("T");
}
