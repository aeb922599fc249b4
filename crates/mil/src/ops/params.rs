//! The types of the fields of an op's `Params`, and how they are read.

use std::fmt;
use std::ops::Deref;

use super::view::MAX_INTS;
use super::{ArgView, Default, InferError, Inferred, Known, OpView};
use crate::{DType, Tensor, TensorType, Type, Value};

/// A tensor bound to a parameter. Dereferences to its type.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// The parameter.
    pub name: &'static str,
    /// The type.
    pub ty: &'a TensorType,
    /// Its position in the flat list of all values bound to the op's parameters, in the order of the op's inputs.
    pub slot: usize,
    arg: &'a ArgView<'a>,
}

/// A value bound to a parameter that accepts more than tensors.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// The parameter.
    pub name: &'static str,
    /// The type.
    pub ty: &'a Type,
    /// Its slot, as in [`Operand`].
    pub slot: usize,
    /// The known part of the value.
    pub known: Option<&'a Known>,
}

/// A constant number in the element type of a parameter.
#[derive(Clone, Copy, Debug)]
pub struct Number<'a> {
    /// The number.
    pub value: f32,
    /// The operand; `None` if the number is the default, which has no element type of its own.
    pub bound: Option<Operand<'a>>,
}

/// A dimension of a tensor, as written in a program: negative numbers count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The parameter.
    pub name: &'static str,
    /// The number.
    pub value: i64,
}

/// Dimensions of a tensor, as written in a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axes {
    /// The parameter.
    pub name: &'static str,
    /// The numbers.
    pub values: Vec<i64>,
}

impl<'a> Operand<'a> {
    fn new(name: &'static str, slot: usize, arg: &'a ArgView<'a>) -> Option<Operand<'a>> {
        Some(Operand { name, ty: arg.ty.as_tensor()?, slot, arg })
    }

    /// The whole tensor, if it is known.
    pub fn value(&self) -> Option<&'a Tensor> {
        self.arg.value().and_then(Value::as_tensor)
    }

    /// The elements of an integer vector or scalar, each `None` if unknown; `None` if not even their number is known.
    pub fn partial(&self) -> Option<Vec<Option<i64>>> {
        self.arg.partial()
    }

    /// All elements, which must be integers.
    ///
    /// # Errors
    /// They are not all known, or not integers.
    pub fn ints(&self) -> Result<Vec<i64>, InferError> {
        let known = match self.value() {
            Some(t) if t.elements() > MAX_INTS => {
                return Err(InferError(format!("input `{}` has more than {MAX_INTS} elements", self.name)));
            }
            Some(t) => t.to_i64(),
            None => self.partial().and_then(|v| v.into_iter().collect()),
        };
        known.ok_or_else(|| not_constant(self.name, "integers"))
    }

    /// The only element.
    ///
    /// # Errors
    /// It is not known, or not one number.
    pub fn float(&self) -> Result<f32, InferError> {
        match self.value() {
            Some(t) if t.elements() == 1 && t.dtype() != DType::String => Ok(t.to_f64()[0] as f32),
            _ => Err(not_constant(self.name, "one number")),
        }
    }

    /// The only element.
    ///
    /// # Errors
    /// It is not known, or not one bool.
    pub fn bool(&self) -> Result<bool, InferError> {
        match self.value() {
            Some(t) if t.dtype() == DType::Bool && t.elements() == 1 => Ok(t.bytes()[0] != 0),
            _ => Err(not_constant(self.name, "a bool")),
        }
    }
}

impl Deref for Operand<'_> {
    type Target = TensorType;

    fn deref(&self) -> &TensorType {
        self.ty
    }
}

impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ty.fmt(f)
    }
}

impl From<Operand<'_>> for Inferred {
    /// Keeps the type and drops what is known of the elements.
    fn from(operand: Operand<'_>) -> Inferred {
        operand.ty.clone().into()
    }
}

impl<'a> Bound<'a> {
    fn new(name: &'static str, slot: usize, arg: &'a ArgView<'a>) -> Bound<'a> {
        Bound { name, ty: &arg.ty, slot, known: arg.known.as_deref() }
    }

    /// The type of a tensor.
    ///
    /// # Errors
    /// It is something else.
    pub fn tensor(&self) -> Result<&'a TensorType, InferError> {
        self.ty.as_tensor().ok_or_else(|| InferError(format!("input `{}` takes tensors", self.name)))
    }
}

impl Axis {
    /// Returns the dimension's index in a tensor of `rank` dimensions.
    ///
    /// # Errors
    /// It is out of range.
    pub fn resolve(self, rank: usize) -> Result<usize, InferError> {
        let Axis { name, value } = self;
        let fixed = if value < 0 { value.checked_add_unsigned(rank as u64) } else { Some(value) };
        let fixed = fixed.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < rank);
        fixed.ok_or_else(|| InferError(format!("input `{name}` is {value}, out of range for rank {rank}")))
    }
}

impl Axes {
    /// Returns the dimensions' indices in a tensor of `rank` dimensions.
    ///
    /// # Errors
    /// One is out of range or repeated.
    pub fn resolve(&self, rank: usize) -> Result<Vec<usize>, InferError> {
        let axis = |&value: &i64| Axis { name: self.name, value }.resolve(rank);
        let axes = self.values.iter().map(axis).collect::<Result<Vec<_>, _>>()?;
        if (1..axes.len()).any(|i| axes[..i].contains(&axes[i])) {
            return Err(InferError(format!("input `{}` names an axis twice: {axes:?}", self.name)));
        }
        Ok(axes)
    }

    /// Returns the indices of these dimensions, or of all if none are given.
    ///
    /// # Errors
    /// As [`resolve`](Axes::resolve).
    pub fn or_all(axes: Option<&Axes>, rank: usize) -> Result<Vec<usize>, InferError> {
        axes.map_or_else(|| Ok((0..rank).collect()), |a| a.resolve(rank))
    }
}

/// A parameter of an op that is about to be read.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The op.
    pub view: &'a OpView<'a>,
    /// The parameter.
    pub name: &'static str,
    /// The default, for when nothing is bound.
    pub default: Default,
}

impl<'a> Place<'a> {
    /// The values bound to the parameter, and the slot of the first.
    fn args(&self) -> (usize, &'a [ArgView<'a>]) {
        let mut start = 0;
        for (name, args) in &self.view.args {
            if *name == self.name {
                return (start, args);
            }
            start += args.len();
        }
        (start, &[])
    }

    fn one(&self) -> Result<(usize, &'a ArgView<'a>), InferError> {
        match self.args() {
            (slot, [arg]) => Ok((slot, arg)),
            (_, []) => Err(InferError(format!("input `{}` is missing", self.name))),
            _ => Err(InferError(format!("input `{}` takes one value", self.name))),
        }
    }

    /// The bound tensor; `None` if nothing is bound.
    fn bound(&self) -> Result<Option<Operand<'a>>, InferError> {
        if self.args().1.is_empty() { Ok(None) } else { Operand::read(self).map(Some) }
    }

    fn not_constant(&self, what: &str) -> InferError {
        not_constant(self.name, what)
    }
}

fn not_constant(name: &str, what: &str) -> InferError {
    InferError(format!("input `{name}` must be {what} known before the run"))
}

/// A type that a field of `Params` can have.
pub trait Read<'a>: Sized {
    /// Reads the field.
    ///
    /// # Errors
    /// The bound values do not fit, or nothing is bound and there is no default.
    fn read(at: &Place<'a>) -> Result<Self, InferError>;
}

impl<'a, T: Read<'a>> Read<'a> for Option<T> {
    fn read(at: &Place<'a>) -> Result<Option<T>, InferError> {
        if at.args().1.is_empty() { Ok(None) } else { T::read(at).map(Some) }
    }
}

impl<'a> Read<'a> for Operand<'a> {
    fn read(at: &Place<'a>) -> Result<Operand<'a>, InferError> {
        let (slot, arg) = at.one()?;
        Operand::new(at.name, slot, arg)
            .ok_or_else(|| InferError(format!("input `{}` must be a tensor, not {}", at.name, arg.ty)))
    }
}

impl<'a> Read<'a> for Bound<'a> {
    fn read(at: &Place<'a>) -> Result<Bound<'a>, InferError> {
        let (slot, arg) = at.one()?;
        Ok(Bound::new(at.name, slot, arg))
    }
}

impl<'a> Read<'a> for Vec<Operand<'a>> {
    fn read(at: &Place<'a>) -> Result<Vec<Operand<'a>>, InferError> {
        let (start, args) = at.args();
        let operands = args.iter().enumerate().map(|(i, arg)| Operand::new(at.name, start + i, arg));
        let operands: Option<_> = operands.collect();
        operands.ok_or_else(|| InferError(format!("input `{}` takes tensors", at.name)))
    }
}

impl<'a> Read<'a> for Vec<Bound<'a>> {
    fn read(at: &Place<'a>) -> Result<Vec<Bound<'a>>, InferError> {
        let (start, args) = at.args();
        Ok(args.iter().enumerate().map(|(i, arg)| Bound::new(at.name, start + i, arg)).collect())
    }
}

impl Read<'_> for bool {
    fn read(at: &Place<'_>) -> Result<bool, InferError> {
        match (at.bound()?, at.default) {
            (Some(operand), _) => operand.bool(),
            (None, Default::Bool(b)) => Ok(b),
            _ => Err(at.not_constant("a bool")),
        }
    }
}

impl Read<'_> for Vec<bool> {
    fn read(at: &Place<'_>) -> Result<Vec<bool>, InferError> {
        match at.bound()?.and_then(|o| o.value()) {
            Some(t) if t.dtype() == DType::Bool && t.elements() <= MAX_INTS => {
                Ok(t.bytes().iter().map(|&b| b != 0).collect())
            }
            _ => Err(at.not_constant("a vector of bools")),
        }
    }
}

impl Read<'_> for i64 {
    fn read(at: &Place<'_>) -> Result<i64, InferError> {
        match (at.bound()?, at.default) {
            (None, Default::Int(i)) => Ok(i.into()),
            (None, _) => Err(at.not_constant("one integer")),
            (Some(operand), _) => match *operand.ints()? {
                [i] => Ok(i),
                _ => Err(at.not_constant("one integer")),
            },
        }
    }
}

impl Read<'_> for Vec<i64> {
    fn read(at: &Place<'_>) -> Result<Vec<i64>, InferError> {
        at.bound()?.ok_or_else(|| at.not_constant("a vector of integers"))?.ints()
    }
}

impl Read<'_> for f32 {
    fn read(at: &Place<'_>) -> Result<f32, InferError> {
        Ok(Number::read(at)?.value)
    }
}

impl<'a> Read<'a> for Number<'a> {
    fn read(at: &Place<'a>) -> Result<Number<'a>, InferError> {
        match (at.bound()?, at.default) {
            (Some(operand), _) => Ok(Number { value: operand.float()?, bound: Some(operand) }),
            (None, Default::Float(value)) => Ok(Number { value, bound: None }),
            _ => Err(at.not_constant("one number")),
        }
    }
}

impl<'a> Read<'a> for &'a str {
    fn read(at: &Place<'a>) -> Result<&'a str, InferError> {
        match (at.args().1, at.default) {
            ([], Default::Str(s)) => Ok(s),
            ([arg], _) => arg.value().and_then(Value::as_str).ok_or_else(|| at.not_constant("a string")),
            _ => Err(at.not_constant("a string")),
        }
    }
}

impl Read<'_> for Axis {
    fn read(at: &Place<'_>) -> Result<Axis, InferError> {
        Ok(Axis { name: at.name, value: i64::read(at)? })
    }
}

impl Read<'_> for Axes {
    fn read(at: &Place<'_>) -> Result<Axes, InferError> {
        Ok(Axes { name: at.name, values: Vec::read(at)? })
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use crate::ops::defs::{Concat, Gru, Softmax};
    use crate::ops::{ArgView, Known, OpDef, OpKind, OpView};
    use crate::{DType, Opset, Type, Value};

    fn data(shape: &[usize]) -> ArgView<'static> {
        ArgView { ty: Cow::Owned(Type::tensor(DType::Fp32, shape)), known: None }
    }

    fn constant(value: Value) -> ArgView<'static> {
        ArgView { ty: Cow::Owned(value.ty()), known: Some(Cow::Owned(Known::Value(value))) }
    }

    fn view<'a>(kind: OpKind, args: Vec<(&'a str, Vec<ArgView<'a>>)>) -> OpView<'a> {
        let version = kind.version(Opset::Ios15).unwrap();
        OpView { kind, version, constant: None, args, outputs: vec![], block_outputs: vec![] }
    }

    #[test]
    fn fields_hold_what_is_bound() {
        let args =
            vec![("axis", vec![constant(Value::int(-1))]), ("values", vec![data(&[2, 1]), data(&[2, 3])])];
        let view = view(OpKind::Concat, args);
        let p = Concat::params(&view).unwrap();
        assert_eq!(p.values.iter().map(|v| v.slot).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(p.values[1].shape, Type::tensor(DType::Fp32, &[2, 3]).as_tensor().unwrap().shape);
        assert_eq!((p.axis.value, p.axis.resolve(2).unwrap()), (-1, 1));
        assert_eq!(p.axis.resolve(0).unwrap_err().0, "input `axis` is -1, out of range for rank 0");
        assert!(!p.interleave);
    }

    #[test]
    fn what_is_absent_is_the_default_or_named() {
        let softmax = OpKind::Softmax;
        let missing = view(softmax, vec![]);
        assert_eq!(Softmax::params(&missing).unwrap_err().0, "input `x` is missing");
        let with_x = view(softmax, vec![("x", vec![data(&[2])])]);
        assert_eq!(Softmax::params(&with_x).unwrap().axis.value, -1);
        let late = view(softmax, vec![("x", vec![data(&[2])]), ("axis", vec![data(&[])])]);
        assert_eq!(
            Softmax::params(&late).unwrap_err().0,
            "input `axis` must be integers known before the run"
        );
        let args = ["x", "initial_h", "weight_ih", "weight_hh"].map(|name| (name, vec![data(&[1, 1])]));
        let gru = view(OpKind::Gru, args.into());
        let p = Gru::params(&gru).unwrap();
        // Parameters that only a later version has.
        assert!(!p.reset_after && p.input_bias.is_none());
    }
}
