//! An op with what is bound to its parameters, which an op's `Params` are read from.

use std::borrow::Cow;

use super::{OpKind, Version};
use crate::{Dim, Op, TensorType, Type, Value};

/// How long a partially known vector may be: shape arithmetic is never longer, and an op must not be able to make
/// vectors grow without end.
pub(crate) const MAX_PARTIAL: usize = 64;
/// How long a vector of integer parameters may be, such as the sizes of a split.
pub(super) const MAX_INTS: usize = 4096;

/// An op with the types of its inputs and what is known of their elements.
#[derive(Debug)]
pub struct OpView<'a> {
    /// The operation.
    pub kind: OpKind,
    /// The version that the function's opset chose.
    pub version: &'static Version,
    /// The op itself: attributes, blocks.
    pub op: &'a Op,
    /// Bound parameters.
    pub args: Vec<(&'a str, Vec<ArgView<'a>>)>,
    /// The declared types of the outputs.
    pub outputs: Vec<&'a Type>,
    /// For each nested block, the inferred types of its outputs.
    pub block_outputs: Vec<Vec<Type>>,
}

/// One thing bound to a parameter.
#[derive(Clone, Debug)]
pub struct ArgView<'a> {
    /// Its type, as inferred.
    pub ty: Cow<'a, Type>,
    /// What is known of its elements.
    pub known: Option<Cow<'a, Known>>,
}

/// What is known of a value before the function runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// All of it.
    Value(Value),
    /// Some elements of a small integer vector or scalar, such as a shape.
    Partial(Vec<Option<i64>>),
}

/// The inferred type of an output, and what is known of its elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Inferred {
    /// The type.
    pub ty: Type,
    /// What is known of the elements.
    pub known: Option<Known>,
}

/// Why the types of an op's outputs could not be inferred: what, not where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InferError(pub String);

impl From<Type> for Inferred {
    fn from(ty: Type) -> Inferred {
        Inferred { ty, known: None }
    }
}

impl From<TensorType> for Inferred {
    fn from(ty: TensorType) -> Inferred {
        Inferred { ty: Type::Tensor(ty), known: None }
    }
}

impl<'a> OpView<'a> {
    /// What is bound to a parameter: several for a variadic one, none if it is unbound.
    pub fn args(&self, name: &str) -> &[ArgView<'a>] {
        self.args.iter().find(|(n, _)| *n == name).map_or(&[], |(_, a)| a)
    }
}

impl ArgView<'_> {
    /// The whole value, where it is known.
    pub fn value(&self) -> Option<&Value> {
        match self.known.as_deref() {
            Some(Known::Value(v)) => Some(v),
            _ => None,
        }
    }

    /// What is known of an integer vector or scalar, element by element; `None` for long ones, which are data.
    pub fn partial(&self) -> Option<Vec<Option<i64>>> {
        match self.known.as_deref() {
            Some(Known::Value(Value::Tensor(t))) => {
                let small = t.shape().len() <= 1 && t.elements() <= MAX_PARTIAL;
                Some(small.then(|| t.to_i64()).flatten()?.into_iter().map(Some).collect())
            }
            Some(Known::Partial(v)) => Some(v.clone()),
            Some(Known::Value(_)) => None,
            None => {
                let t = self.ty.as_tensor().filter(|t| t.dtype.is_int() && t.rank() <= 1)?;
                t.elements().filter(|&n| n <= MAX_PARTIAL).map(|n| vec![None; n])
            }
        }
    }
}

/// Turns a partially known integer into a dimension; a negative one is unknown.
pub fn dim(size: Option<i64>) -> Dim {
    size.and_then(|n| usize::try_from(n).ok()).map_or(Dim::Unknown, Dim::Fixed)
}
