//! The function that a network is lowered to, layer by layer.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use milwright_mil::build::Builder;
use milwright_mil::ops::InferError;
use milwright_mil::{DType, Dim, Input, OpKind, Tensor, TensorType, Value, ValueId};
use milwright_spec::proto::WeightParams;

use super::weights;
use crate::Error;

pub(super) type Result<T> = std::result::Result<T, Error>;

/// Pushes an op with named inputs, and returns its only result. Does not compile if the op has no such parameter.
macro_rules! op {
    ($net:expr, $kind:ident, $($name:ident = $value:expr),+ $(,)?) => {
        $net.op(milwright_mil::OpKind::$kind, vec![$(
            $crate::neural_network::net::In::from($value).named(milwright_mil::param!($kind.$name))
        ),+])
    };
}
pub(super) use op;

/// A function under construction, and the values that the network's names refer to at this point.
///
/// A network's tensors are floats. Here a value keeps the type that an op gave it (bool, int32) until a layer needs
/// floats, so that computed shapes stay integers.
pub(super) struct Net {
    pub builder: Builder,
    pub scope: HashMap<String, ValueId>,
    /// The name of the current layer, from which the names of its ops are made.
    pub label: String,
    /// The number of outputs of the current layer.
    pub outputs: usize,
    /// Every definition of a name, with the value that the name referred to before.
    pub journal: Vec<(String, Option<ValueId>)>,
    /// Names that layers would have defined if they could be lowered.
    pub faulty: HashSet<String>,
    /// The errors of layers that could not be lowered.
    pub faults: Vec<Error>,
    /// The number of layers that were lowered.
    pub lowered: usize,
    /// Whether results are compared with the shapes that layers say they have.
    pub checks_shapes: bool,
    /// Whether inputs and outputs have the shapes that the model describes, even if the network is an old one.
    pub as_declared: bool,
}

/// An argument of a parameter.
pub(super) enum In {
    Value(ValueId),
    Values(Vec<ValueId>),
    Constant(Value),
}

/// One size of a shape, which may be known only at run time.
#[derive(Clone, Debug)]
pub(super) enum Size {
    Fixed(usize),
    /// The product of these dimensions of a value.
    Of(ValueId, Range<usize>),
}

impl Net {
    /// Pushes an op and returns all its results.
    pub fn ops(&mut self, kind: OpKind, inputs: Vec<Input>) -> Result<Vec<ValueId>> {
        Ok(self.builder.op(kind, &self.label, inputs)?)
    }

    /// Pushes an op and returns its first result.
    pub fn op(&mut self, kind: OpKind, inputs: Vec<Input>) -> Result<ValueId> {
        let outputs = self.ops(kind, inputs)?;
        outputs.first().copied().ok_or_else(|| Error::malformed("an op without a result"))
    }

    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("{}_const", self.label);
        self.builder.constant(&name, tensor)
    }

    /// A vector of int32.
    pub fn ints(&mut self, values: &[i32]) -> ValueId {
        let name = format!("{}_const", self.label);
        self.builder.constant(&name, Value::ints(values))
    }

    pub fn ty(&self, value: ValueId) -> Result<&TensorType> {
        self.builder.tensor_type(value).ok_or_else(|| Error::malformed("not a tensor"))
    }

    pub fn rank(&self, value: ValueId) -> Result<usize> {
        self.ty(value).map(TensorType::rank)
    }

    pub fn dim(&self, value: ValueId, axis: usize) -> Result<Dim> {
        let shape = &self.ty(value)?.shape;
        shape.get(axis).copied().ok_or_else(|| too_low(shape.len(), axis + 1))
    }

    /// The size of a dimension, which must be known.
    pub fn size(&self, value: ValueId, axis: usize) -> Result<usize> {
        let unknown = || Error::unsupported(format!("the size of dimension {axis} has to be known"));
        self.dim(value, axis)?.fixed().ok_or_else(unknown)
    }

    /// Returns an axis counted from the front; `axis` may count from the end.
    pub fn axis(&self, value: ValueId, axis: i64) -> Result<usize> {
        normalize(axis, self.rank(value)?)
    }

    /// The value in fp32.
    pub fn float(&mut self, value: ValueId) -> Result<ValueId> {
        self.cast(value, DType::Fp32)
    }

    /// The value in int32, truncated.
    pub fn int(&mut self, value: ValueId) -> Result<ValueId> {
        if let Some(tensor) = self.builder.known(value).filter(|t| t.dtype().is_float()).cloned() {
            let values = tensor.to_f64().iter().map(|&x| x as i32).collect();
            return Ok(self.constant(tensor_of(tensor.shape(), values)?));
        }
        self.cast(value, DType::Int32)
    }

    /// Whether elements are not zero, as bools.
    pub fn bool(&mut self, value: ValueId) -> Result<ValueId> {
        match self.ty(value)?.dtype {
            DType::Bool => Ok(value),
            DType::Int32 => op!(self, NotEqual, x = value, y = 0),
            _ => op!(self, NotEqual, x = value, y = 0.0),
        }
    }

    pub fn cast(&mut self, value: ValueId, dtype: DType) -> Result<ValueId> {
        if self.ty(value)?.dtype == dtype {
            return Ok(value);
        }
        op!(self, Cast, x = value, dtype = dtype.name())
    }

    /// The integers of a value, if it is known.
    pub fn known_ints(&self, value: ValueId) -> Option<Vec<i64>> {
        let tensor = self.builder.known(value)?;
        Some(tensor.to_i64().unwrap_or_else(|| tensor.to_f64().iter().map(|&x| x as i64).collect()))
    }

    /// The number of a value, if it is known and has one element.
    pub fn known_number(&self, value: ValueId) -> Option<f64> {
        match self.builder.known(value)?.to_f64()[..] {
            [x] => Some(x),
            _ => None,
        }
    }

    pub fn weights(&self, params: Option<&WeightParams>, shape: &[usize]) -> Result<Tensor> {
        weights::read(params, shape, 0)
    }

    pub fn reshape(&mut self, value: ValueId, shape: &[i64]) -> Result<ValueId> {
        let shape: Option<Vec<i32>> = shape.iter().map(|&n| i32::try_from(n).ok()).collect();
        let shape = shape.ok_or_else(|| Error::malformed("a shape is too large"))?;
        op!(self, Reshape, x = value, shape = &shape[..])
    }

    pub fn shape_of(&mut self, value: ValueId) -> Result<ValueId> {
        op!(self, Shape, x = value)
    }

    /// Makes a vector of int32 with a shape: a constant if all sizes are known.
    pub fn shape(&mut self, sizes: &[Size]) -> Result<ValueId> {
        let known: Option<Vec<i32>> =
            sizes.iter().map(|s| self.fixed(s).and_then(|n| n.try_into().ok())).collect();
        if let Some(known) = known {
            return Ok(self.ints(&known));
        }
        let mut parts = Vec::with_capacity(sizes.len());
        for size in sizes {
            parts.push(match (self.fixed(size), size) {
                (Some(n), _) => self.ints(&[i32_of(n as u64)?]),
                (None, Size::Of(value, axes)) => {
                    let shape = self.shape_of(*value)?;
                    let (begin, end) = ([axes.start as i32], [axes.end as i32]);
                    let part = op!(self, SliceByIndex, x = shape, begin = &begin[..], end = &end[..])?;
                    op!(self, ReduceProd, x = part, axes = &[0][..], keep_dims = true)?
                }
                (None, Size::Fixed(_)) => unreachable!("a fixed size is known"),
            });
        }
        op!(self, Concat, values = parts, axis = 0)
    }

    /// Reshapes to sizes of which some may be known only at run time.
    pub fn reshape_to(&mut self, value: ValueId, sizes: &[Size]) -> Result<ValueId> {
        let fixed: Vec<Option<usize>> = sizes.iter().map(|s| self.fixed(s)).collect();
        if fixed.iter().filter(|s| s.is_none()).count() <= 1 {
            let shape: Vec<i64> = fixed.iter().map(|s| s.map_or(-1, |n| n as i64)).collect();
            return self.reshape(value, &shape);
        }
        let shape = self.shape(sizes)?;
        op!(self, Reshape, x = value, shape = shape)
    }

    fn fixed(&self, size: &Size) -> Option<usize> {
        match size {
            Size::Fixed(n) => Some(*n),
            Size::Of(value, axes) => {
                let shape = &self.builder.tensor_type(*value)?.shape;
                shape.get(axes.clone())?.iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))
            }
        }
    }

    /// Lowers an op that requires exactly `rank` dimensions: merges the leading dimensions into one, or adds some, and
    /// restores them in the result.
    pub fn with_rank(
        &mut self,
        value: ValueId,
        rank: usize,
        lower: impl FnOnce(&mut Net, ValueId) -> Result<ValueId>,
    ) -> Result<ValueId> {
        let found = self.rank(value)?;
        if found == rank {
            return lower(self, value);
        }
        if found < rank {
            let axes: Vec<i32> = (0..(rank - found) as i32).collect();
            let x = op!(self, ExpandDims, x = value, axes = &axes[..])?;
            let y = lower(self, x)?;
            return op!(self, Squeeze, x = y, axes = &axes[..]);
        }
        let merged = found - rank + 1;
        let mut sizes = vec![Size::Of(value, 0..merged)];
        sizes.extend((merged..found).map(|d| Size::Of(value, d..d + 1)));
        let x = self.reshape_to(value, &sizes)?;
        let y = lower(self, x)?;
        let mut sizes: Vec<Size> = (0..merged).map(|d| Size::Of(value, d..d + 1)).collect();
        sizes.extend((1..rank).map(|d| Size::Of(y, d..d + 1)));
        self.reshape_to(y, &sizes)
    }

    /// Returns a vector of one element for a scalar, because networks have no scalars.
    pub fn vector(&mut self, value: ValueId) -> Result<ValueId> {
        match self.builder.tensor_type(value) {
            Some(ty) if ty.rank() == 0 => op!(self, ExpandDims, x = value, axes = &[0][..]),
            _ => Ok(value),
        }
    }

    /// The only element, as a scalar.
    pub fn scalar(&mut self, value: ValueId) -> Result<ValueId> {
        match self.rank(value)? {
            0 => Ok(value),
            _ => self.reshape(value, &[]),
        }
    }
}

/// Returns the inputs of a layer that takes exactly `N`.
pub(super) fn take<const N: usize>(x: &[ValueId]) -> Result<[ValueId; N]> {
    let wrong = || Error::malformed(format!("takes {N} inputs, not {}", x.len()));
    x.try_into().map_err(|_| wrong())
}

/// Returns the first `N` inputs of a layer that may take more.
pub(super) fn first<const N: usize>(x: &[ValueId]) -> Result<[ValueId; N]> {
    let wrong = || Error::malformed(format!("takes {N} inputs, not {}", x.len()));
    x.first_chunk().copied().ok_or_else(wrong)
}

pub(super) fn normalize(axis: i64, rank: usize) -> Result<usize> {
    let from_front = if axis < 0 { axis.checked_add_unsigned(rank as u64) } else { Some(axis) };
    let from_front = from_front.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < rank);
    from_front.ok_or_else(|| Error::malformed(format!("the axis {axis} of a tensor of rank {rank}")))
}

pub(super) fn i32_of(n: u64) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::malformed(format!("{n} is too large")))
}

pub(super) fn usize_of(n: u64) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::malformed(format!("{n} is too large")))
}

pub(super) fn i32_from(n: i64) -> i32 {
    n.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

pub(super) fn sizes(values: &[u64]) -> Result<Vec<usize>> {
    values.iter().map(|&n| usize_of(n)).collect()
}

pub(super) fn tensor_of<T: milwright_mil::Element>(shape: &[usize], values: Vec<T>) -> Result<Tensor> {
    Tensor::from_vec(shape, values).map_err(|e| Error::malformed(e.to_string()))
}

pub(super) fn too_low(rank: usize, needed: usize) -> Error {
    Error::malformed(format!("the input has rank {rank}, the layer needs {needed} or more"))
}

impl In {
    pub fn named(self, name: &str) -> Input {
        match self {
            In::Value(v) => Input::value(name, v),
            In::Values(v) => Input::values(name, v),
            In::Constant(c) => Input::constant(name, c),
        }
    }
}

macro_rules! bind {
    ($($from:ty => |$x:ident| $to:expr;)*) => {
        $(impl From<$from> for In { fn from($x: $from) -> In { $to } })*
    };
}
bind! {
    ValueId => |v| In::Value(v);
    Vec<ValueId> => |v| In::Values(v);
    Value => |v| In::Constant(v);
    Tensor => |t| In::Constant(Value::Tensor(t));
    f32 => |x| In::Constant(Value::float(x));
    i32 => |i| In::Constant(Value::int(i));
    bool => |b| In::Constant(Value::bool(b));
    &str => |s| In::Constant(Value::string(s));
    &[i32] => |v| In::Constant(Value::ints(v));
}

impl From<&[bool]> for In {
    fn from(v: &[bool]) -> In {
        In::Constant(Tensor::from_bools(&[v.len()], v).expect("a vector's shape is its length").into())
    }
}

impl From<InferError> for Error {
    fn from(e: InferError) -> Error {
        Error::malformed(e.0)
    }
}
