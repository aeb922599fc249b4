//! Functions of single elements.

use milwright_formats::proto::unary_function_layer_params::Operation;
use milwright_formats::proto::{
    BiasLayerParams, ClipLayerParams, ScaleLayerParams, UnaryFunctionLayerParams, WeightParams,
};
use milwright_mil::{DType, OpKind, Tensor, ValueId};

use super::net::Net;
use crate::Error;
use crate::lower::{In, Result, op, sizes, take};

/// The epsilon of layers whose epsilon is 0 or not set.
const EPSILON: f32 = 1e-6;

pub(super) fn unary(n: &mut Net, x: &[ValueId], p: &UnaryFunctionLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let mut x = n.float_of(x)?;
    let scale = if p.scale == 0.0 { 1.0 } else { p.scale };
    if scale != 1.0 || p.shift != 0.0 {
        x = op!(n, LinearActivation, x = x, alpha = scale, beta = p.shift)?;
    }
    let epsilon = if p.epsilon == 0.0 { EPSILON } else { p.epsilon };
    match Operation::try_from(p.r#type) {
        Ok(Operation::Sqrt) => op!(n, Sqrt, x = x),
        Ok(Operation::Rsqrt) => op!(n, Rsqrt, x = x, epsilon = epsilon),
        Ok(Operation::Inverse) => op!(n, Inverse, x = x, epsilon = epsilon),
        Ok(Operation::Power) if p.alpha == 2.0 => op!(n, Square, x = x),
        Ok(Operation::Power) => op!(n, Pow, x = x, y = p.alpha),
        Ok(Operation::Exp) => op!(n, Exp, x = x),
        Ok(Operation::Log) => op!(n, Log, x = x, epsilon = 0.0),
        Ok(Operation::Abs) => op!(n, Abs, x = x),
        Ok(Operation::Threshold) => op!(n, Threshold, x = x, alpha = p.alpha),
        Err(_) => Err(Error::unsupported("an unknown function")),
    }
}

/// Lowers a function that MIL has as an op.
pub(super) fn function(n: &mut Net, x: &[ValueId], kind: OpKind) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    n.op(kind, vec![In::from(x).named("x")])
}

pub(super) fn clip(n: &mut Net, x: &[ValueId], p: &ClipLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    op!(n, Clip, x = x, alpha = p.min_val, beta = p.max_val)
}

/// sign(x) · ln(|x| + √(x² + 1))
pub(super) fn asinh(n: &mut Net, x: &[ValueId]) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let (size, sign) = (op!(n, Abs, x = x)?, op!(n, Sign, x = x)?);
    let root = root_of_square_plus(n, x, 1.0)?;
    let sum = op!(n, Add, x = size, y = root)?;
    let log = op!(n, Log, x = sum, epsilon = 0.0)?;
    op!(n, Mul, x = sign, y = log)
}

/// ln(x + √(x² - 1))
pub(super) fn acosh(n: &mut Net, x: &[ValueId]) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let root = root_of_square_plus(n, x, -1.0)?;
    let sum = op!(n, Add, x = x, y = root)?;
    op!(n, Log, x = sum, epsilon = 0.0)
}

fn root_of_square_plus(n: &mut Net, x: ValueId, y: f32) -> Result<ValueId> {
    let square = op!(n, Square, x = x)?;
    let sum = op!(n, Add, x = square, y = y)?;
    op!(n, Sqrt, x = sum)
}

pub(super) fn binary(n: &mut Net, x: &[ValueId], kind: OpKind) -> Result<ValueId> {
    let [x, y] = take(x)?;
    pair(n, kind, x, y)
}

/// Keeps integers if the result is an integer.
fn pair(n: &mut Net, kind: OpKind, x: ValueId, y: ValueId) -> Result<ValueId> {
    let exact = matches!(kind, OpKind::Add | OpKind::Sub | OpKind::Mul | OpKind::Maximum | OpKind::Minimum);
    let ints = n.ty(x)?.dtype == DType::Int32 && n.ty(y)?.dtype == DType::Int32;
    let (x, y) = if exact && ints { (x, y) } else { (n.float_of(x)?, n.float_of(y)?) };
    n.op(kind, vec![In::from(x).named("x"), In::from(y).named("y")])
}

/// Computes the sum or product of all inputs, or of a single input and a number.
pub(super) fn fold(n: &mut Net, x: &[ValueId], kind: OpKind, alpha: f32) -> Result<ValueId> {
    match x {
        [x] => {
            let x = n.float_of(*x)?;
            n.op(kind, vec![In::from(x).named("x"), In::from(alpha).named("y")])
        }
        _ => fold_all(n, x, kind),
    }
}

pub(super) fn fold_all(n: &mut Net, x: &[ValueId], kind: OpKind) -> Result<ValueId> {
    let (&first, rest) = x.split_first().ok_or_else(|| Error::malformed("has no inputs"))?;
    rest.iter().try_fold(first, |a, &b| pair(n, kind, a, b))
}

pub(super) fn average(n: &mut Net, x: &[ValueId]) -> Result<ValueId> {
    let sum = fold_all(n, x, OpKind::Add)?;
    let sum = n.float_of(sum)?;
    op!(n, Mul, x = sum, y = 1.0 / x.len() as f32)
}

pub(super) fn scale(n: &mut Net, x: &[ValueId], p: &ScaleLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let scale = channels(n, &p.shape_scale, p.scale.as_deref())?;
    let scaled = op!(n, Mul, x = x, y = scale)?;
    if !p.has_bias {
        return Ok(scaled);
    }
    let bias = channels(n, &p.shape_bias, p.bias.as_deref())?;
    op!(n, Add, x = scaled, y = bias)
}

pub(super) fn bias(n: &mut Net, x: &[ValueId], p: &BiasLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let bias = channels(n, &p.shape, p.bias.as_deref())?;
    op!(n, Add, x = x, y = bias)
}

/// Reads weights of one size, so that they broadcast: one for each channel, for each pixel, or for each element.
fn channels(n: &Net, shape: &[u64], weights: Option<&WeightParams>) -> Result<Tensor> {
    let shape = sizes(shape)?;
    match shape[..] {
        [channels] => n.weights(weights, &[channels, 1, 1]),
        _ => n.weights(weights, &shape),
    }
}

/// Compares two inputs, or one input with a number.
pub(super) fn compare(n: &mut Net, x: &[ValueId], kind: OpKind, alpha: f32) -> Result<ValueId> {
    let y = match x {
        [_] => In::from(alpha),
        [_, y] => In::from(n.float_of(*y)?),
        _ => return Err(Error::malformed(format!("takes 1 or 2 inputs, not {}", x.len()))),
    };
    let x = n.float_of(x[0])?;
    n.op(kind, vec![In::from(x).named("x"), y.named("y")])
}

pub(super) fn logical(n: &mut Net, x: &[ValueId], kind: OpKind) -> Result<ValueId> {
    let [x, y] = take(x)?;
    let (x, y) = (n.bool_of(x)?, n.bool_of(y)?);
    n.op(kind, vec![In::from(x).named("x"), In::from(y).named("y")])
}

pub(super) fn logical_not(n: &mut Net, x: &[ValueId]) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.bool_of(x)?;
    op!(n, LogicalNot, x = x)
}

pub(super) fn where_broadcastable(n: &mut Net, x: &[ValueId]) -> Result<ValueId> {
    let [condition, a, b] = take(x)?;
    let condition = n.bool_of(condition)?;
    let ints = n.ty(a)?.dtype == DType::Int32 && n.ty(b)?.dtype == DType::Int32;
    let (a, b) = if ints { (a, b) } else { (n.float_of(a)?, n.float_of(b)?) };
    op!(n, Select, cond = condition, a = a, b = b)
}
