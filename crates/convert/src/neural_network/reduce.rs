//! Reductions.

use milwright_formats::proto::reduce_layer_params::{ReduceAxis, ReduceOperation};
use milwright_formats::proto::{CumSumLayerParams, ReduceLayerParams};
use milwright_mil::{DType, Input, OpKind, Value, ValueId, param};

use super::net::Net;
use crate::Error;
use crate::lower::{Result, first, i32_from, op, take};

/// Lowers a reduction over some axes that MIL has as an op.
pub(super) fn over(
    n: &mut Net,
    x: &[ValueId],
    kind: OpKind,
    axes: &[i64],
    keep_dims: bool,
    all: bool,
) -> Result<ValueId> {
    let [x] = take(x)?;
    let exact =
        matches!(kind, OpKind::ReduceMax | OpKind::ReduceMin | OpKind::ReduceSum | OpKind::ReduceProd);
    let x = if exact && n.ty(x)?.dtype == DType::Int32 { x } else { n.float_of(x)? };
    let mut inputs = vec![
        Input::value(param!(ReduceSum.x), x),
        Input::constant(param!(ReduceSum.keep_dims), Value::bool(keep_dims)),
    ];
    if !all {
        let axes: Vec<i32> = axes.iter().map(|&a| i32_from(a)).collect();
        inputs.push(Input::constant(param!(ReduceSum.axes), Value::ints(&axes)));
    }
    n.op(kind, inputs)
}

/// Lowers the older kind of layer, which keeps the dimensions.
pub(super) fn reduce(n: &mut Net, x: &[ValueId], p: &ReduceLayerParams) -> Result<ValueId> {
    let axes: &[i64] = match ReduceAxis::try_from(p.axis) {
        Ok(ReduceAxis::Chw) => &[-3, -2, -1],
        Ok(ReduceAxis::Hw) => &[-2, -1],
        Ok(ReduceAxis::C) => &[-3],
        Ok(ReduceAxis::H) => &[-2],
        Ok(ReduceAxis::W) => &[-1],
        Err(_) => return Err(Error::unsupported("unknown axes")),
    };
    let mut input: [ValueId; 1] = take(x)?;
    let kind = match ReduceOperation::try_from(p.mode) {
        Ok(ReduceOperation::Sum) => OpKind::ReduceSum,
        Ok(ReduceOperation::Avg) => OpKind::ReduceMean,
        Ok(ReduceOperation::Prod) => OpKind::ReduceProd,
        Ok(ReduceOperation::Sumsquare) => OpKind::ReduceSumSquare,
        Ok(ReduceOperation::L1) => OpKind::ReduceL1Norm,
        Ok(ReduceOperation::L2) => OpKind::ReduceL2Norm,
        Ok(ReduceOperation::Max) => OpKind::ReduceMax,
        Ok(ReduceOperation::Min) => OpKind::ReduceMin,
        Ok(ReduceOperation::Logsum) => {
            // Layer "log sum" adds logarithms; it does not take the logarithm of the sum.
            let x = n.float_of(input[0])?;
            let epsilon = if p.epsilon == 0.0 { 1e-6 } else { p.epsilon };
            input = [op!(n, Log, x = x, epsilon = epsilon)?];
            OpKind::ReduceSum
        }
        Ok(ReduceOperation::Argmax) => {
            let &[axis] = axes else { return Err(Error::malformed("an argmax over several axes")) };
            let x = n.float_of(input[0])?;
            return op!(n, ReduceArgmax, x = x, axis = i32_from(axis), keep_dims = true);
        }
        Err(_) => return Err(Error::unsupported("an unknown reduction")),
    };
    over(n, &input, kind, axes, true, false)
}

pub(super) fn cumsum(n: &mut Net, x: &[ValueId], p: &CumSumLayerParams) -> Result<ValueId> {
    let [value] = first(x)?;
    let axis = match x.get(1) {
        Some(&axis) => {
            let known = n.known_number(axis);
            known.ok_or_else(|| Error::unsupported("an axis that is computed"))? as i64
        }
        None => p.axis,
    };
    let value = n.float_of(value)?;
    op!(n, Cumsum, x = value, axis = i32_from(axis), exclusive = p.exclude_final_sum, reverse = p.reverse)
}
