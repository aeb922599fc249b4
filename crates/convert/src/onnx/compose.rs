//! Short names for the ops that lowerings compose, with constants in the type of the other operand.

use half::f16;
use milwright_mil::{DType, Dim, Input, OpKind, Tensor, Value, ValueId, param};

use super::elem::Elem;
use super::item::{Item, Val};
use super::node::{Node, Results};

use crate::Error;
use crate::lower::{In, Lowering, Result, Size, i32_of, op, tensor_of};

/// An operand of a formula: a value, or a number that takes the element type of the other operand.
#[derive(Clone, Copy)]
pub(crate) enum A {
    V(ValueId),
    C(f64),
}

impl From<ValueId> for A {
    fn from(v: ValueId) -> A {
        A::V(v)
    }
}

impl From<f64> for A {
    fn from(c: f64) -> A {
        A::C(c)
    }
}

/// A value of the program with the ONNX element type that it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct V {
    pub id: ValueId,
    pub elem: Elem,
}

impl Results for V {
    fn items(self, _: &Node<'_, '_>) -> Result<Vec<Item>> {
        Ok(vec![Val::new(self.elem, self.id).into()])
    }
}

impl Results for Vec<V> {
    fn items(self, _: &Node<'_, '_>) -> Result<Vec<Item>> {
        Ok(self.into_iter().map(|v| Val::new(v.elem, v.id).into()).collect())
    }
}

/// One result.
pub(super) fn one(id: ValueId, elem: Elem) -> Result<Vec<V>> {
    Ok(vec![V { id, elem }])
}

impl Node<'_, '_> {
    /// An input that the op requires, with its element type.
    pub fn need(&mut self, i: usize) -> Result<V> {
        Ok(V { id: self.value(i)?, elem: self.elem(i)? })
    }

    /// An input that may be left out.
    pub fn opt(&mut self, i: usize) -> Result<Option<V>> {
        if self.has(i) { self.need(i).map(Some) } else { Ok(None) }
    }

    /// All inputs of an op that takes any number of them.
    pub fn all(&mut self) -> Result<Vec<V>> {
        (0..self.inputs.len()).map(|i| self.need(i)).collect()
    }

    /// An attribute that names a dimension of a value, counted from the front.
    pub fn axis_or(&mut self, name: &'static str, default: i64, of: ValueId) -> Result<usize> {
        let axis = self.int_or(name, default)?;
        self.axis(of, axis)
    }

    /// The number of an input, if it is known and has one element.
    pub fn known_scalar(&self, i: usize) -> Option<f64> {
        match self.known_numbers(i)?[..] {
            [x] => Some(x),
            _ => None,
        }
    }
}

impl Lowering {
    /// A number as a scalar of the element type.
    pub fn number(&self, dtype: DType, c: f64) -> Result<Tensor> {
        Ok(match dtype {
            DType::Fp16 => Tensor::scalar(f16::from_f64(c)),
            DType::Fp32 => Tensor::scalar(c as f32),
            DType::Int32 => Tensor::scalar(c as i32),
            DType::Bool => Tensor::from_bools(&[], &[c != 0.0]).expect("a scalar has one element"),
            other => return Err(Error::unsupported(format!("a number of type {other}"))),
        })
    }

    pub fn dtype(&self, v: ValueId) -> Result<DType> {
        Ok(self.ty(v)?.dtype)
    }

    fn operand(&self, a: A, dtype: DType) -> Result<In> {
        Ok(match a {
            A::V(v) => In::from(v),
            A::C(c) => In::from(self.number(dtype, c)?),
        })
    }

    /// Applies a function of two operands.
    pub fn bin(&mut self, kind: OpKind, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        let (a, b) = (a.into(), b.into());
        let dtype = match (a, b) {
            (A::V(v), _) | (_, A::V(v)) => self.dtype(v)?,
            _ => DType::Fp32,
        };
        // A formula of two numbers needs one of them as a value.
        let a = match (a, b) {
            (A::C(c), A::C(_)) => A::V(self.constant(Tensor::scalar(c as f32))),
            _ => a,
        };
        let (a, b) = (self.operand(a, dtype)?, self.operand(b, dtype)?);
        self.op(kind, vec![a.named(param!(Add.x)), b.named(param!(Add.y))])
    }

    pub fn add(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::Add, a, b)
    }

    pub fn sub(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::Sub, a, b)
    }

    pub fn mul(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::Mul, a, b)
    }

    pub fn div(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::RealDiv, a, b)
    }

    pub fn floor_div(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::FloorDiv, a, b)
    }

    pub fn modulo(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::Mod, a, b)
    }

    pub fn pow(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::Pow, a, b)
    }

    pub fn max(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::Maximum, a, b)
    }

    pub fn min(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::Minimum, a, b)
    }

    pub fn less(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::Less, a, b)
    }

    pub fn less_equal(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::LessEqual, a, b)
    }

    pub fn greater(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::Greater, a, b)
    }

    pub fn greater_equal(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::GreaterEqual, a, b)
    }

    pub fn equal(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::Equal, a, b)
    }

    pub fn not_equal(&mut self, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        self.bin(OpKind::NotEqual, a, b)
    }

    pub fn and(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.bin(OpKind::LogicalAnd, a, b)
    }

    pub fn or(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.bin(OpKind::LogicalOr, a, b)
    }

    pub fn not(&mut self, a: ValueId) -> Result<ValueId> {
        op!(self, LogicalNot, x = a)
    }

    /// Applies a function of one operand that has no other parameters.
    pub fn un(&mut self, kind: OpKind, x: ValueId) -> Result<ValueId> {
        self.op(kind, vec![Input::value(param!(Abs.x), x)])
    }

    pub fn neg(&mut self, x: ValueId) -> Result<ValueId> {
        self.mul(x, -1.0)
    }

    /// The natural logarithm, with log 0 = -∞.
    pub fn log(&mut self, x: ValueId) -> Result<ValueId> {
        let zero = self.number(self.dtype(x)?, 0.0)?;
        op!(self, Log, x = x, epsilon = zero)
    }

    /// `a` where the condition holds, else `b`.
    pub fn select(&mut self, cond: ValueId, a: impl Into<A>, b: impl Into<A>) -> Result<ValueId> {
        let (a, b) = (a.into(), b.into());
        let dtype = match (a, b) {
            (A::V(v), _) | (_, A::V(v)) => self.dtype(v)?,
            _ => DType::Fp32,
        };
        self.select_as(cond, a, b, dtype)
    }

    /// `a` where the condition holds, else `b`, numbers being of the given type.
    pub fn select_as(
        &mut self,
        cond: ValueId,
        a: impl Into<A>,
        b: impl Into<A>,
        dtype: DType,
    ) -> Result<ValueId> {
        let (a, b) = self.as_wide_as(cond, a.into(), b.into(), dtype)?;
        let (a, b) = (self.operand(a, dtype)?, self.operand(b, dtype)?);
        let inputs = vec![
            Input::value(param!(Select.cond), cond),
            a.named(param!(Select.a)),
            b.named(param!(Select.b)),
        ];
        self.op(OpKind::Select, inputs)
    }

    /// Repeats one of the operands of a choice over the shape of the condition, if neither of them has it: coremltools
    /// takes the shape of the result from `a` and `b` alone.
    fn as_wide_as(&mut self, cond: ValueId, a: A, b: A, dtype: DType) -> Result<(A, A)> {
        let shape = |this: &Self, x: A| -> Result<Vec<Dim>> {
            match x {
                A::V(v) => Ok(this.ty(v)?.shape.clone()),
                A::C(_) => Ok(Vec::new()),
            }
        };
        let wide = self.ty(cond)?.shape.clone();
        let operands = [shape(self, a)?, shape(self, b)?];
        let one = Dim::Fixed(1);
        let from_back = |shape: &[Dim], i: usize| shape.iter().rev().nth(i).copied().unwrap_or(one);
        let is_missing =
            |i: usize| from_back(&wide, i) != one && operands.iter().all(|shape| from_back(shape, i) == one);
        if operands.iter().any(|s| s.len() >= wide.len()) && !(0..wide.len()).any(is_missing) {
            return Ok((a, b));
        }
        match (a, b) {
            (A::C(_), A::V(_)) => Ok((A::V(self.repeated(cond, a, dtype)?), b)),
            _ => Ok((a, A::V(self.repeated(cond, b, dtype)?))),
        }
    }

    /// A value over the shape of a tensor of bools, whatever these are.
    fn repeated(&mut self, over: ValueId, x: A, dtype: DType) -> Result<ValueId> {
        if dtype == DType::Bool {
            let not = self.not(over)?;
            let never = op!(self, LogicalAnd, x = over, y = not)?;
            let x = self.operand(x, dtype)?;
            return self.op(
                OpKind::LogicalOr,
                vec![Input::value(param!(LogicalOr.x), never), x.named(param!(LogicalOr.y))],
            );
        }
        // A sum with -0 has the sign of the other summand, even if that is 0.
        let zeros = self.cast(over, dtype)?;
        let zeros = self.mul(zeros, -0.0)?;
        self.add(zeros, x)
    }

    /// A value repeated over a shape that only a run knows.
    pub fn spread(&mut self, x: ValueId, shape: ValueId) -> Result<ValueId> {
        let dtype = self.dtype(x)?;
        if dtype == DType::Bool {
            let never = self.filled(shape, dtype, 0.0)?;
            return op!(self, LogicalOr, x = x, y = never);
        }
        let zeros = self.filled(shape, dtype, -0.0)?;
        self.add(x, zeros)
    }

    pub fn expand_dims(&mut self, x: ValueId, axes: &[i32]) -> Result<ValueId> {
        if axes.is_empty() {
            return Ok(x);
        }
        op!(self, ExpandDims, x = x, axes = axes)
    }

    pub fn squeeze(&mut self, x: ValueId, axes: &[i32]) -> Result<ValueId> {
        if axes.is_empty() {
            return Ok(x);
        }
        op!(self, Squeeze, x = x, axes = axes)
    }

    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Result<ValueId> {
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return Ok(x);
        }
        let perm: Vec<i32> = perm.iter().map(|&p| p as i32).collect();
        op!(self, Transpose, x = x, perm = &perm[..])
    }

    pub fn concat(&mut self, values: Vec<ValueId>, axis: usize) -> Result<ValueId> {
        match values[..] {
            [only] => Ok(only),
            _ => op!(self, Concat, values = values, axis = axis as i32),
        }
    }

    /// The elements from `begin` to before `end` along one axis; `None` is the end of the axis.
    pub fn cut(&mut self, x: ValueId, axis: usize, begin: i32, end: Option<i32>) -> Result<ValueId> {
        self.cut_by(x, axis, begin, end, 1)
    }

    /// As `cut`, taking every `stride`-th element.
    pub fn cut_by(
        &mut self,
        x: ValueId,
        axis: usize,
        begin: i32,
        end: Option<i32>,
        stride: i32,
    ) -> Result<ValueId> {
        let rank = self.rank(x)?;
        let (mut begins, mut ends, mut strides) = (vec![0; rank], vec![0; rank], vec![1; rank]);
        let (mut from_start, mut to_end) = (vec![true; rank], vec![true; rank]);
        begins[axis] = begin;
        from_start[axis] = false;
        if let Some(end) = end {
            ends[axis] = end;
            to_end[axis] = false;
        }
        strides[axis] = stride;
        op!(
            self,
            SliceByIndex,
            x = x,
            begin = &begins[..],
            end = &ends[..],
            stride = &strides[..],
            begin_mask = &from_start[..],
            end_mask = &to_end[..]
        )
    }

    /// One index along an axis, which the result lacks.
    pub fn take_one(&mut self, x: ValueId, axis: usize, index: i32) -> Result<ValueId> {
        let end = if index == -1 { None } else { Some(index + 1) };
        let part = self.cut(x, axis, index, end)?;
        self.squeeze(part, &[axis as i32])
    }

    pub fn reverse(&mut self, x: ValueId, axis: usize) -> Result<ValueId> {
        op!(self, Reverse, x = x, axes = &[axis as i32][..])
    }

    pub fn reduce(&mut self, kind: OpKind, x: ValueId, axes: &[usize], keep: bool) -> Result<ValueId> {
        let axes: Vec<i32> = axes.iter().map(|&a| a as i32).collect();
        let inputs = vec![
            Input::value(param!(ReduceSum.x), x),
            Input::constant(param!(ReduceSum.axes), Value::ints(&axes)),
            Input::constant(param!(ReduceSum.keep_dims), Value::bool(keep)),
        ];
        self.op(kind, inputs)
    }

    pub fn sum(&mut self, x: ValueId, axes: &[usize], keep: bool) -> Result<ValueId> {
        self.reduce(OpKind::ReduceSum, x, axes, keep)
    }

    pub fn mean(&mut self, x: ValueId, axes: &[usize], keep: bool) -> Result<ValueId> {
        self.reduce(OpKind::ReduceMean, x, axes, keep)
    }

    pub fn matmul(&mut self, x: ValueId, y: ValueId, tx: bool, ty: bool) -> Result<ValueId> {
        op!(self, Matmul, x = x, y = y, transpose_x = tx, transpose_y = ty)
    }

    /// Slices of `x` along an axis; the indices must be in range and not negative. Bools are carried as int32.
    pub fn gather(&mut self, x: ValueId, indices: ValueId, axis: usize) -> Result<ValueId> {
        let dtype = self.dtype(x)?;
        if dtype == DType::Bool {
            let x = self.cast(x, DType::Int32)?;
            let y = self.gather(x, indices, axis)?;
            return self.cast(y, DType::Bool);
        }
        op!(self, Gather, x = x, indices = indices, axis = axis as i32)
    }

    pub fn range(&mut self, end: ValueId) -> Result<ValueId> {
        op!(self, Range1d, end = end, start = 0, step = 1)
    }

    /// 0, 1, … up to before the size.
    pub fn range_to(&mut self, size: &Size) -> Result<ValueId> {
        if let Some(n) = self.known_size(size) {
            let all: Vec<i32> = (0..i32_of(n as u64)?).collect();
            return Ok(self.int_vector(&all));
        }
        let n = self.size_value(size)?;
        self.range(n)
    }

    /// A size as a scalar.
    pub fn size_value(&mut self, size: &Size) -> Result<ValueId> {
        let v = self.shape(std::slice::from_ref(size))?;
        self.squeeze(v, &[0])
    }

    /// The sizes of all dimensions of a value.
    pub fn sizes_of(&self, v: ValueId) -> Result<Vec<Size>> {
        Ok((0..self.rank(v)?).map(|d| Size::Of(v, d..d + 1)).collect())
    }

    /// The shape, if all sizes are known.
    pub fn fixed_shape(&self, v: ValueId) -> Result<Option<Vec<usize>>> {
        Ok(self.ty(v)?.fixed_shape())
    }

    /// The shape, which must be known.
    pub fn need_shape(&self, v: ValueId, what: &str) -> Result<Vec<usize>> {
        self.fixed_shape(v)?.ok_or_else(|| {
            Error::unsupported(format!("{what}: all sizes have to be known"))
                .with_hint("give every dynamic size of the model a number")
        })
    }

    /// All sizes but the first two, which must be known.
    pub fn spatial(&self, v: ValueId, what: &str) -> Result<Vec<usize>> {
        let ty = self.ty(v)?;
        let known: Option<Vec<usize>> = ty.shape.iter().skip(2).map(|d| d.fixed()).collect();
        known.ok_or_else(|| {
            Error::unsupported(format!("{what}: the sizes after batch and channels have to be known"))
                .with_hint("give the model's dynamic sizes of images numbers")
        })
    }

    /// A tensor full of one number, in the given type.
    pub fn full(&mut self, sizes: &[Size], c: f64, dtype: DType) -> Result<ValueId> {
        let value = self.number(dtype, c)?;
        if sizes.is_empty() {
            return Ok(self.constant(value));
        }
        let shape = self.shape(sizes)?;
        op!(self, Fill, shape = shape, value = value)
    }

    pub fn fill(&mut self, shape: ValueId, c: f64, dtype: DType) -> Result<ValueId> {
        let value = self.number(dtype, c)?;
        op!(self, Fill, shape = shape, value = value)
    }

    /// A constant of floats in the given float type.
    pub fn float_tensor(&mut self, shape: &[usize], values: Vec<f32>, dtype: DType) -> Result<ValueId> {
        let tensor = match dtype {
            DType::Fp16 => tensor_of(shape, values.into_iter().map(f16::from_f32).collect())?,
            _ => tensor_of(shape, values)?,
        };
        Ok(self.constant(tensor))
    }

    /// A constant of int32 with a shape.
    pub fn int_tensor(&mut self, shape: &[usize], values: Vec<i32>) -> Result<ValueId> {
        let tensor = tensor_of(shape, values)?;
        Ok(self.constant(tensor))
    }

    /// The value as a vector of int32.
    pub fn as_vector(&mut self, v: ValueId) -> Result<ValueId> {
        let v = self.int_of(v)?;
        match self.rank(v)? {
            1 => Ok(v),
            0 => self.expand_dims(v, &[0]),
            _ => self.reshape(v, &[-1]),
        }
    }

    /// Reshapes by the pattern of `reshape` with a shape that may be computed.
    pub fn reshape_by(&mut self, x: ValueId, shape: ValueId) -> Result<ValueId> {
        op!(self, Reshape, x = x, shape = shape)
    }

    /// Repeats dimensions of size 1 so that `x`, after adding leading dimensions, has the sizes. Dimensions of other sizes stay.
    pub fn broadcast_to(&mut self, x: ValueId, sizes: &[Size]) -> Result<ValueId> {
        let rank = self.rank(x)?;
        let lead = sizes.len().saturating_sub(rank);
        let axes: Vec<i32> = (0..lead as i32).collect();
        let x = self.expand_dims(x, &axes)?;
        let mut reps = Vec::with_capacity(sizes.len());
        for (d, size) in sizes.iter().enumerate() {
            reps.push(match self.dim(x, d)? {
                Dim::Fixed(1) => size.clone(),
                _ => Size::Fixed(1),
            });
        }
        if reps.iter().all(|r| self.known_size(r) == Some(1)) {
            return Ok(x);
        }
        let reps = self.shape(&reps)?;
        op!(self, Tile, x = x, reps = reps)
    }
}
