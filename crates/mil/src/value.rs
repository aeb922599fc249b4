//! Constant values.

use crate::{DType, Dim, Tensor, Type};

/// A constant: the value of a `const` op, of an attribute, or of an immediate input.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A tensor or scalar.
    Tensor(Tensor),
    /// A list: its element type and its elements.
    List(Type, Vec<Value>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A dictionary: key type, value type, entries in file order.
    Dict(Type, Type, Vec<(Value, Value)>),
}

impl Value {
    /// A rank-0 string.
    pub fn string(s: impl Into<String>) -> Value {
        Value::Tensor(Tensor::string(s))
    }

    /// A rank-0 bool.
    pub fn bool(b: bool) -> Value {
        Value::Tensor(Tensor::from_bools(&[], &[b]).expect("one element fits a scalar"))
    }

    /// A rank-0 int32.
    pub fn int(i: i32) -> Value {
        Value::Tensor(Tensor::scalar(i))
    }

    /// A rank-0 fp32.
    pub fn float(x: f32) -> Value {
        Value::Tensor(Tensor::scalar(x))
    }

    /// A vector of int32.
    pub fn ints(v: &[i32]) -> Value {
        Value::Tensor(Tensor::from_vec(&[v.len()], v.to_vec()).expect("a vector's shape is its length"))
    }

    /// The type of the value.
    pub fn ty(&self) -> Type {
        match self {
            Value::Tensor(t) => Type::Tensor(t.ty()),
            Value::List(t, v) => Type::List(Box::new(t.clone()), Dim::Fixed(v.len())),
            Value::Tuple(v) => Type::Tuple(v.iter().map(Value::ty).collect()),
            Value::Dict(k, v, _) => Type::Dict(Box::new(k.clone()), Box::new(v.clone())),
        }
    }

    /// The tensor, if it is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Value::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// The string, if it is a rank-0 string.
    pub fn as_str(&self) -> Option<&str> {
        let t = self.as_tensor().filter(|t| t.dtype() == DType::String && t.elements() == 1)?;
        t.strings().first().map(String::as_str)
    }
}

impl From<Tensor> for Value {
    fn from(t: Tensor) -> Value {
        Value::Tensor(t)
    }
}
