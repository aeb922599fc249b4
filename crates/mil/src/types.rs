//! Types of values.

use std::fmt;

use crate::DType;

/// One dimension of a tensor's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A size known when the model was made.
    Fixed(usize),
    /// A size known only when the function runs; written `?`.
    Unknown,
}

impl Dim {
    /// The size, if it is known.
    pub const fn fixed(self) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(n),
            Dim::Unknown => None,
        }
    }

    /// Whether the two can be the same size: they are equal, or one of them is unknown.
    pub fn agrees(self, other: Dim) -> bool {
        match (self, other) {
            (Dim::Fixed(a), Dim::Fixed(b)) => a == b,
            _ => true,
        }
    }

    /// Applies `f` to a known dimension. The result is unknown if the dimension is, or if `f` returns `None`.
    pub fn map(self, f: impl FnOnce(usize) -> Option<usize>) -> Dim {
        self.fixed().and_then(f).map_or(Dim::Unknown, Dim::Fixed)
    }

    /// Combines two descriptions of the same size: returns the known one, if either is.
    pub fn or(self, other: Dim) -> Dim {
        self.fixed().map_or(other, Dim::Fixed)
    }

    /// Applies `f` to two known dimensions. The result is unknown if either is, or if `f` returns `None`.
    pub fn zip_with(self, other: Dim, f: impl FnOnce(usize, usize) -> Option<usize>) -> Dim {
        match (self, other) {
            (Dim::Fixed(a), Dim::Fixed(b)) => f(a, b).map_or(Dim::Unknown, Dim::Fixed),
            _ => Dim::Unknown,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::Fixed(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

/// The type of a tensor: element type and shape. A scalar has an empty shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// The element type.
    pub dtype: DType,
    /// The dimensions, outermost first.
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// A tensor type.
    pub fn new(dtype: DType, shape: impl Into<Vec<Dim>>) -> TensorType {
        TensorType { dtype, shape: shape.into() }
    }

    /// A tensor type with every dimension known.
    pub fn fixed(dtype: DType, shape: &[usize]) -> TensorType {
        TensorType { dtype, shape: shape.iter().map(|&n| Dim::Fixed(n)).collect() }
    }

    /// A rank-0 tensor type.
    pub fn scalar(dtype: DType) -> TensorType {
        TensorType { dtype, shape: Vec::new() }
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The shape, if every dimension is known.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(|d| d.fixed()).collect()
    }

    /// The number of elements, if every dimension is known and the product does not overflow.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))
    }

    /// Whether a value can have both types: they are equal except for unknown dimensions.
    pub fn agrees(&self, other: &TensorType) -> bool {
        self.dtype == other.dtype
            && self.rank() == other.rank()
            && self.shape.iter().zip(&other.shape).all(|(a, b)| a.agrees(*b))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor<{}, [", self.dtype)?;
        for (i, d) in self.shape.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]>")
    }
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A tensor; scalars are tensors of rank 0.
    Tensor(TensorType),
    /// A list of values of one type; the length may be unknown.
    List(Box<Type>, Dim),
    /// A fixed number of values of their own types.
    Tuple(Vec<Type>),
    /// A dictionary.
    Dict(Box<Type>, Box<Type>),
    /// Memory that outlives one run of the function.
    State(Box<Type>),
}

impl Type {
    /// A tensor type with every dimension known.
    pub fn tensor(dtype: DType, shape: &[usize]) -> Type {
        Type::Tensor(TensorType::fixed(dtype, shape))
    }

    /// A rank-0 tensor type.
    pub fn scalar(dtype: DType) -> Type {
        Type::Tensor(TensorType::scalar(dtype))
    }

    /// The tensor type, if it is one.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Type::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// Whether a value can have both types: they are equal except for unknown dimensions.
    pub fn agrees(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Tensor(a), Type::Tensor(b)) => a.agrees(b),
            (Type::List(a, n), Type::List(b, m)) => a.agrees(b) && n.agrees(*m),
            (Type::Tuple(a), Type::Tuple(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.agrees(b))
            }
            (Type::Dict(a, b), Type::Dict(c, d)) => a.agrees(c) && b.agrees(d),
            (Type::State(a), Type::State(b)) => a.agrees(b),
            _ => false,
        }
    }
}

impl From<TensorType> for Type {
    fn from(t: TensorType) -> Type {
        Type::Tensor(t)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(t) => t.fmt(f),
            Type::List(t, n) => write!(f, "list<{t}, {n}>"),
            Type::Tuple(ts) => {
                f.write_str("tuple<")?;
                for (i, t) in ts.iter().enumerate() {
                    write!(f, "{}{t}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(">")
            }
            Type::Dict(k, v) => write!(f, "dict<{k}, {v}>"),
            Type::State(t) => write!(f, "state<{t}>"),
        }
    }
}

/// The most elements of a tensor.
pub const MAX_ELEMENTS: usize = 1 << 32;
/// The most dimensions of a tensor. Core ML allows 5, and lookup tables need 2 more.
pub const MAX_RANK: usize = 16;

/// Whether a type is within [`MAX_ELEMENTS`] and [`MAX_RANK`].
pub(crate) fn size_fits(ty: &Type) -> bool {
    match ty {
        Type::Tensor(t) => {
            let mut sizes = t.shape.iter().filter_map(|d| d.fixed()).filter(|&n| n > 0);
            let elements = sizes.try_fold(1usize, |n, d| n.checked_mul(d));
            t.rank() <= MAX_RANK && elements.is_some_and(|n| n <= MAX_ELEMENTS)
        }
        Type::List(t, _) | Type::State(t) => size_fits(t),
        Type::Tuple(ts) => ts.iter().all(size_fits),
        Type::Dict(k, v) => size_fits(k) && size_fits(v),
    }
}
