//! The kit of the importers. To *lower* a part of a model (a layer, a node) is to push MIL ops that compute the same; this
//! is what every format needs for it.
//!
//! * [`Lowering`] is a function under construction: it pushes ops with [`op!`], converts element types, and makes
//!   shapes of which some sizes are known only at run time ([`Size`]).
//! * [`Scope`] says which values the names of a format refer to at a point, and undoes the definitions of a nested
//!   part.
//! * [`Faults`] collects the errors of all parts that cannot be lowered, each with its place, so that one error lists
//!   them all.
//! * Small functions check counts, axes and numbers that come from a file.

mod faults;
mod scope;

use std::ops::{DerefMut, Range};

use milwright_mil::build::Builder;
use milwright_mil::ops::InferError;
use milwright_mil::{Arg, BlockId, DType, Dim, Input, OpKind, Opset, Tensor, TensorType, Value, ValueId};

use crate::Error;
pub(crate) use faults::Faults;
pub(crate) use scope::{Mark, Scope};

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Pushes an op with named inputs, and returns its only result. Does not compile if the op has no such parameter.
macro_rules! op {
    ($to:expr, $kind:ident, $($name:ident = $value:expr),+ $(,)?) => {
        $to.op(milwright_mil::OpKind::$kind, vec![$(
            $crate::lower::In::from($value).named(milwright_mil::param!($kind.$name))
        ),+])
    };
}
pub(crate) use op;

/// A function under construction.
pub(crate) struct Lowering {
    pub builder: Builder,
    /// The name of the current part of the model, from which the names of its ops are made.
    pub label: String,
}

/// Constants with fewer elements are written where they are used.
const MIN_WEIGHT: usize = 10;

/// An argument of a parameter.
pub(crate) enum In {
    Value(ValueId),
    Values(Vec<ValueId>),
    Constant(Value),
}

/// One size of a shape, which may be known only at run time.
#[derive(Clone, Debug)]
pub(crate) enum Size {
    Fixed(usize),
    /// The product of these dimensions of a value.
    Of(ValueId, Range<usize>),
    /// An element of a vector of int32.
    Element(ValueId, usize),
}

impl Lowering {
    /// A function without inputs or ops.
    pub fn new(opset: Opset) -> Lowering {
        Lowering { builder: Builder::new(opset), label: String::new() }
    }

    /// Pushes an op and returns all its results.
    pub fn ops(&mut self, kind: OpKind, mut inputs: Vec<Input>) -> Result<Vec<ValueId>> {
        // Weights are ops of their own: only these are stored in the weight file, compressed, and known by a name.
        for Input { name, args } in inputs.iter_mut().filter(|_| !kind.is_constexpr()) {
            for arg in args {
                if let Arg::Const(Value::Tensor(tensor)) = arg
                    && tensor.elements() >= MIN_WEIGHT
                {
                    let name = format!("{}_{name}", self.label);
                    *arg = Arg::Value(self.builder.constant(&name, tensor.clone()));
                }
            }
        }
        Ok(self.builder.op(kind, &self.label, inputs)?)
    }

    /// Pushes an op with nested blocks and returns all its results.
    pub fn ops_with_blocks(
        &mut self,
        kind: OpKind,
        inputs: Vec<Input>,
        blocks: Vec<BlockId>,
    ) -> Result<Vec<ValueId>> {
        Ok(self.builder.op_with_blocks(kind, &self.label, inputs, blocks)?)
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
    pub fn int_vector(&mut self, values: &[i32]) -> ValueId {
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

    /// The value, cast to fp32.
    pub fn float_of(&mut self, value: ValueId) -> Result<ValueId> {
        self.cast(value, DType::Fp32)
    }

    /// The value, cast to int32: floats are truncated.
    pub fn int_of(&mut self, value: ValueId) -> Result<ValueId> {
        if let Some(tensor) = self.builder.known(value).filter(|t| t.dtype().is_float()).cloned() {
            let values = tensor.to_f64().iter().map(|&x| x as i32).collect();
            return Ok(self.constant(tensor_of(tensor.shape(), values)?));
        }
        self.cast(value, DType::Int32)
    }

    /// Whether elements are not zero, as bools.
    pub fn bool_of(&mut self, value: ValueId) -> Result<ValueId> {
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

    /// The elements of a value as integers, if they are known now and not only when the program runs.
    pub fn known_integers(&self, value: ValueId) -> Option<Vec<i64>> {
        let tensor = self.builder.known(value)?;
        Some(tensor.to_i64().unwrap_or_else(|| tensor.to_f64().iter().map(|&x| x as i64).collect()))
    }

    /// The only element of a value, if it has one and that is known.
    pub fn known_number(&self, value: ValueId) -> Option<f64> {
        match self.builder.known(value)?.to_f64()[..] {
            [x] => Some(x),
            _ => None,
        }
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
            return Ok(self.int_vector(&known));
        }
        let parts = self.shape_parts(sizes)?;
        op!(self, Concat, values = parts, axis = 0)
    }

    /// For each size a vector of one element.
    fn shape_parts(&mut self, sizes: &[Size]) -> Result<Vec<ValueId>> {
        let mut parts = Vec::with_capacity(sizes.len());
        for size in sizes {
            parts.push(match (self.fixed(size), size) {
                (Some(n), _) => self.int_vector(&[i32_of(n as u64)?]),
                (None, Size::Of(value, axes)) => {
                    let shape = self.shape_of(*value)?;
                    let (begin, end) = ([axes.start as i32], [axes.end as i32]);
                    let part = op!(self, SliceByIndex, x = shape, begin = &begin[..], end = &end[..])?;
                    op!(self, ReduceProd, x = part, axes = &[0][..], keep_dims = true)?
                }
                (None, Size::Element(vector, at)) => self.element(*vector, *at)?,
                (None, Size::Fixed(_)) => unreachable!("a fixed size is known"),
            });
        }
        Ok(parts)
    }

    /// An element of a vector, as a vector of one element.
    pub fn element(&mut self, vector: ValueId, at: usize) -> Result<ValueId> {
        if self.ty(vector)?.shape[..] == [Dim::Fixed(1)] && at == 0 {
            return Ok(vector);
        }
        let (begin, end) = ([at as i32], [at as i32 + 1]);
        op!(self, SliceByIndex, x = vector, begin = &begin[..], end = &end[..])
    }

    /// Reshapes to sizes of which some may be known only at run time.
    pub fn reshape_to(&mut self, value: ValueId, sizes: &[Size]) -> Result<ValueId> {
        let fixed: Vec<Option<usize>> = sizes.iter().map(|s| self.fixed(s)).collect();
        if fixed.iter().filter(|s| s.is_none()).count() <= 1 {
            let shape: Vec<i64> = fixed.iter().map(|s| s.map_or(-1, |n| n as i64)).collect();
            return self.reshape(value, &shape);
        }
        // A size that turns out as 0 would copy a dimension. The first, which is a number of things, is left to be found.
        let mut parts = self.shape_parts(sizes)?;
        if let Some(first) = fixed.iter().position(Option::is_none) {
            parts[first] = self.int_vector(&[-1]);
        }
        let shape = op!(self, Concat, values = parts, axis = 0)?;
        op!(self, Reshape, x = value, shape = shape)
    }

    /// A tensor of a shape, with one number in every element. The shape's length must be known.
    pub fn filled(&mut self, shape: ValueId, dtype: DType, number: f64) -> Result<ValueId> {
        match dtype {
            DType::Bool => op!(self, Fill, shape = shape, value = number != 0.0),
            DType::Int32 => op!(self, Fill, shape = shape, value = number as i32),
            DType::Fp16 => {
                op!(self, Fill, shape = shape, value = Tensor::scalar(half::f16::from_f64(number)))
            }
            _ => op!(self, Fill, shape = shape, value = number as f32),
        }
    }

    /// A size, if it is known.
    pub fn known_size(&self, size: &Size) -> Option<usize> {
        self.fixed(size)
    }

    fn fixed(&self, size: &Size) -> Option<usize> {
        match size {
            Size::Fixed(n) => Some(*n),
            Size::Element(vector, at) => {
                let known = self.builder.partial(*vector)?.get(*at).copied()??;
                usize::try_from(known).ok()
            }
            Size::Of(value, axes) => {
                let shape = &self.builder.tensor_type(*value)?.shape;
                shape.get(axes.clone())?.iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))
            }
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

/// Lowers an op that requires exactly `rank` dimensions: merges the leading dimensions into one, or adds some, and
/// restores them in the result.
pub(crate) fn with_rank<L: DerefMut<Target = Lowering>>(
    n: &mut L,
    value: ValueId,
    rank: usize,
    lower: impl FnOnce(&mut L, ValueId) -> Result<ValueId>,
) -> Result<ValueId> {
    let found = n.rank(value)?;
    if found == rank {
        return lower(n, value);
    }
    if found < rank {
        let axes: Vec<i32> = (0..(rank - found) as i32).collect();
        let x = op!(n, ExpandDims, x = value, axes = &axes[..])?;
        let y = lower(n, x)?;
        return op!(n, Squeeze, x = y, axes = &axes[..]);
    }
    let merged = found - rank + 1;
    let mut sizes = vec![Size::Of(value, 0..merged)];
    sizes.extend((merged..found).map(|d| Size::Of(value, d..d + 1)));
    let x = n.reshape_to(value, &sizes)?;
    let y = lower(n, x)?;
    let mut sizes: Vec<Size> = (0..merged).map(|d| Size::Of(value, d..d + 1)).collect();
    sizes.extend((1..rank).map(|d| Size::Of(y, d..d + 1)));
    n.reshape_to(y, &sizes)
}

/// Returns the inputs of a part that takes exactly `N`.
pub(crate) fn take<const N: usize>(x: &[ValueId]) -> Result<[ValueId; N]> {
    let wrong = || Error::malformed(format!("takes {N} inputs, not {}", x.len()));
    x.try_into().map_err(|_| wrong())
}

/// Returns the first `N` inputs of a part that may take more.
pub(crate) fn first<const N: usize>(x: &[ValueId]) -> Result<[ValueId; N]> {
    let wrong = || Error::malformed(format!("takes {N} inputs, not {}", x.len()));
    x.first_chunk().copied().ok_or_else(wrong)
}

pub(crate) fn normalize(axis: i64, rank: usize) -> Result<usize> {
    let from_front = if axis < 0 { axis.checked_add_unsigned(rank as u64) } else { Some(axis) };
    let from_front = from_front.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < rank);
    from_front.ok_or_else(|| Error::malformed(format!("the axis {axis} of a tensor of rank {rank}")))
}

pub(crate) fn i32_of(n: u64) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::malformed(format!("{n} is too large")))
}

pub(crate) fn usize_of(n: u64) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::malformed(format!("{n} is too large")))
}

pub(crate) fn i32_from(n: i64) -> i32 {
    n.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

pub(crate) fn sizes(values: &[u64]) -> Result<Vec<usize>> {
    values.iter().map(|&n| usize_of(n)).collect()
}

pub(crate) fn tensor_of<T: milwright_mil::Element>(shape: &[usize], values: Vec<T>) -> Result<Tensor> {
    Tensor::from_vec(shape, values).map_err(|e| Error::malformed(e.to_string()))
}

pub(crate) fn too_low(rank: usize, needed: usize) -> Error {
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
