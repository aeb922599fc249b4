//! An op as type inference and kernels see it: parameters by name, defaults applied, constants readable.

use std::borrow::Cow;

use super::{Default, OpKind, Version};
use crate::{DType, Dim, Op, Tensor, TensorType, Type, Value};

/// How long a partially known vector may be: shape arithmetic is never longer, and an op must not be able to make
/// vectors grow without end.
pub(crate) const MAX_PARTIAL: usize = 64;
/// How long a vector of integer parameters may be, such as the sizes of a split.
const MAX_INTS: usize = 4096;

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

    /// Whether something is bound to the parameter.
    pub fn has(&self, name: &str) -> bool {
        !self.args(name).is_empty()
    }

    /// The type of a bound parameter.
    ///
    /// # Errors
    /// Nothing, or a list, is bound.
    pub fn ty(&self, name: &str) -> Result<&Type, InferError> {
        match self.args(name) {
            [a] => Ok(&a.ty),
            [] => Err(InferError(format!("input `{name}` is missing"))),
            _ => Err(InferError(format!("input `{name}` takes one value"))),
        }
    }

    /// The type of a bound tensor.
    ///
    /// # Errors
    /// Nothing, or something else, is bound.
    pub fn tensor(&self, name: &str) -> Result<&TensorType, InferError> {
        let ty = self.ty(name)?;
        ty.as_tensor().ok_or_else(|| InferError(format!("input `{name}` must be a tensor, not {ty}")))
    }

    /// The types of the tensors bound to a variadic parameter.
    ///
    /// # Errors
    /// Something else is among them.
    pub fn tensors(&self, name: &str) -> Result<Vec<&TensorType>, InferError> {
        let tensor = |a: &'_ ArgView<'a>| a.ty.as_tensor().is_some();
        let args = self.args(name);
        if !args.iter().all(tensor) {
            return Err(InferError(format!("input `{name}` takes tensors")));
        }
        Ok(args.iter().filter_map(|a| a.ty.as_tensor()).collect())
    }

    /// The whole value of a bound parameter, where it is known.
    pub fn value(&self, name: &str) -> Option<&Value> {
        match self.args(name) {
            [a] => a.value(),
            _ => None,
        }
    }

    /// The whole tensor of a bound parameter, where it is known.
    pub fn known_tensor(&self, name: &str) -> Option<&Tensor> {
        self.value(name).and_then(Value::as_tensor)
    }

    /// A bool parameter: what is bound or the default.
    ///
    /// # Errors
    /// It is not known, or not one bool.
    pub fn bool(&self, name: &str) -> Result<bool, InferError> {
        match (self.known_tensor(name), self.default(name)) {
            (Some(t), _) if t.dtype() == DType::Bool && t.elements() == 1 => Ok(t.bytes()[0] != 0),
            (None, Default::Bool(b)) if !self.has(name) => Ok(b),
            _ => Err(self.not_constant(name, "a bool")),
        }
    }

    /// A vector of bools without a default, such as a mask; `None` if nothing is bound.
    ///
    /// # Errors
    /// Something is bound that is not known, or not of bools.
    pub fn opt_bools(&self, name: &str) -> Result<Option<Vec<bool>>, InferError> {
        match self.known_tensor(name) {
            Some(t) if t.dtype() == DType::Bool && t.elements() <= MAX_INTS => {
                Ok(Some(t.bytes().iter().map(|&b| b != 0).collect()))
            }
            None if !self.has(name) => Ok(None),
            _ => Err(self.not_constant(name, "a vector of bools")),
        }
    }

    /// An integer parameter: what is bound or the default.
    ///
    /// # Errors
    /// It is not known, or not one integer.
    pub fn int(&self, name: &str) -> Result<i64, InferError> {
        match self.ints(name)?.as_slice() {
            [i] => Ok(*i),
            _ => Err(self.not_constant(name, "one integer")),
        }
    }

    /// An integer vector parameter: what is bound or the default.
    ///
    /// # Errors
    /// It is not known, or not of integers.
    pub fn ints(&self, name: &str) -> Result<Vec<i64>, InferError> {
        self.opt_ints(name)?.ok_or_else(|| self.not_constant(name, "a vector of integers"))
    }

    /// An integer vector parameter without a default; `None` if nothing is bound.
    ///
    /// # Errors
    /// Something is bound that is not known, or not of integers.
    pub fn opt_ints(&self, name: &str) -> Result<Option<Vec<i64>>, InferError> {
        if !self.has(name) {
            return Ok(match self.default(name) {
                Default::Int(i) => Some(vec![i.into()]),
                Default::Ints(v) => Some(v.iter().map(|&i| i.into()).collect()),
                _ => None,
            });
        }
        let known = match self.known_tensor(name) {
            Some(t) if t.elements() > MAX_INTS => {
                return Err(InferError(format!("input `{name}` has more than {MAX_INTS} elements")));
            }
            Some(t) => t.to_i64(),
            None => self.partial(name).and_then(|v| v.into_iter().collect()),
        };
        known.map(Some).ok_or_else(|| self.not_constant(name, "integers"))
    }

    /// What is known of an integer vector or scalar, element by element; `None` where not even the count is known.
    pub fn partial(&self, name: &str) -> Option<Vec<Option<i64>>> {
        match self.args(name) {
            [a] => a.partial(),
            _ => None,
        }
    }

    /// A float parameter: what is bound or the default.
    ///
    /// # Errors
    /// It is not known, or not one number.
    pub fn float(&self, name: &str) -> Result<f32, InferError> {
        match (self.known_tensor(name), self.default(name)) {
            (Some(t), _) if t.elements() == 1 && t.dtype() != DType::String => Ok(t.to_f64()[0] as f32),
            (None, Default::Float(x)) if !self.has(name) => Ok(x),
            _ => Err(self.not_constant(name, "one number")),
        }
    }

    /// A string parameter: what is bound or the default.
    ///
    /// # Errors
    /// It is not known, or not one string.
    pub fn str(&self, name: &str) -> Result<&str, InferError> {
        match (self.value(name).and_then(Value::as_str), self.default(name)) {
            (Some(s), _) => Ok(s),
            (None, Default::Str(s)) if !self.has(name) => Ok(s),
            _ => Err(self.not_constant(name, "a string")),
        }
    }

    /// An axis parameter of a tensor of `rank` dimensions, made non-negative.
    ///
    /// # Errors
    /// It is not known or out of range.
    pub fn axis(&self, name: &str, rank: usize) -> Result<usize, InferError> {
        normalize_axis(name, self.int(name)?, rank)
    }

    /// A vector of axes of a tensor of `rank` dimensions, made non-negative; `None` if nothing is bound.
    ///
    /// # Errors
    /// One is not known, out of range or repeated.
    pub fn opt_axes(&self, name: &str, rank: usize) -> Result<Option<Vec<usize>>, InferError> {
        let Some(axes) = self.opt_ints(name)? else { return Ok(None) };
        let axes = axes.iter().map(|&a| normalize_axis(name, a, rank)).collect::<Result<Vec<_>, _>>()?;
        if (1..axes.len()).any(|i| axes[..i].contains(&axes[i])) {
            return Err(InferError(format!("input `{name}` names an axis twice: {axes:?}")));
        }
        Ok(Some(axes))
    }

    fn default(&self, name: &str) -> Default {
        self.version.params.iter().find(|p| p.name == name).map_or(Default::Absent, |p| p.default)
    }

    fn not_constant(&self, name: &str, what: &str) -> InferError {
        InferError(format!("input `{name}` must be {what} known before the run"))
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

fn normalize_axis(name: &str, axis: i64, rank: usize) -> Result<usize, InferError> {
    let fixed = if axis < 0 { axis.checked_add_unsigned(rank as u64) } else { Some(axis) };
    let fixed = fixed.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < rank);
    fixed.ok_or_else(|| InferError(format!("input `{name}` is {axis}, out of range for rank {rank}")))
}

/// Turns a partially known integer into a dimension; a negative one is unknown.
pub fn dim(size: Option<i64>) -> Dim {
    size.and_then(|n| usize::try_from(n).ok()).map_or(Dim::Unknown, Dim::Fixed)
}
