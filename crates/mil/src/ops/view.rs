//! An op with the facts about its inputs, from which an op's `Params` are read.

use std::borrow::Cow;

use super::{OpKind, Version};
use crate::{Dim, TensorType, Type, Value};

/// The longest partly known vector. Shape arithmetic is never longer, and without a limit ops could make vectors grow
/// forever.
pub(crate) const MAX_PARTIAL: usize = 64;
/// The longest vector of integer parameters, such as the sizes of a split.
pub(super) const MAX_INTS: usize = 4096;

/// An op with the types of its inputs and the known parts of their values.
#[derive(Debug)]
pub struct OpView<'a> {
    /// The operation.
    pub kind: OpKind,
    /// The version that the function's opset chose.
    pub version: &'static Version,
    /// The value of a `const`.
    pub constant: Option<&'a Value>,
    /// Bound parameters.
    pub args: Vec<(&'a str, Vec<ArgView<'a>>)>,
    /// The declared types of the outputs.
    pub outputs: Vec<&'a Type>,
    /// For each nested block, the inferred types of its outputs.
    pub block_outputs: Vec<Vec<Type>>,
}

/// An argument of a parameter.
#[derive(Clone, Debug)]
pub struct ArgView<'a> {
    /// Its type, as inferred.
    pub ty: Cow<'a, Type>,
    /// The known part of its value.
    pub known: Option<Cow<'a, Known>>,
}

/// The part of a value that is known before the function runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// The whole value.
    Value(Value),
    /// Some elements of a small integer vector or scalar, such as a shape.
    Partial(Vec<Option<i64>>),
}

/// The inferred type of an output, and the known part of its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Inferred {
    /// The type.
    pub ty: Type,
    /// The known part of the value.
    pub known: Option<Known>,
}

/// The reason why the types of an op's outputs could not be inferred. Does not name the op.
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
    /// The arguments of a parameter: several if it is variadic, none if it is not bound.
    pub fn args(&self, name: &str) -> &[ArgView<'a>] {
        self.args.iter().find(|(n, _)| *n == name).map_or(&[], |(_, a)| a)
    }
}

impl ArgView<'_> {
    /// The whole value, if it is known.
    pub fn value(&self) -> Option<&Value> {
        match self.known.as_deref() {
            Some(Known::Value(v)) => Some(v),
            _ => None,
        }
    }

    /// The elements of an integer vector or scalar, each `None` if unknown. `None` for long vectors, which are data and
    /// not shapes.
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

/// Turns a possibly unknown integer into a dimension. Negative integers are unknown dimensions.
pub fn dim(size: Option<i64>) -> Dim {
    size.and_then(|n| usize::try_from(n).ok()).map_or(Dim::Unknown, Dim::Fixed)
}
