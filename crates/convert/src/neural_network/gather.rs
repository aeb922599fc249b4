//! Gathering elements by index, and scattering them.

use milwright_formats::proto::ScatterMode;
use milwright_mil::{DType, Input, OpKind, Value, ValueId, param};

use super::net::Net;
use crate::Error;
use crate::lower::{Result, i32_from, take};

pub(super) fn gather(n: &mut Net, x: &[ValueId], kind: OpKind, axis: Option<i64>) -> Result<ValueId> {
    let [x, indices] = take(x)?;
    let x = n.number(x)?;
    let indices = n.int_of(indices)?;
    let mut inputs = vec![Input::value(param!(Gather.x), x), Input::value(param!(Gather.indices), indices)];
    if let Some(axis) = axis {
        inputs.push(Input::constant(param!(Gather.axis), Value::int(i32_from(axis))));
    }
    n.op(kind, inputs)
}

pub(super) fn scatter(
    n: &mut Net,
    x: &[ValueId],
    kind: OpKind,
    axis: Option<i64>,
    mode: i32,
) -> Result<ValueId> {
    let [data, indices, updates] = take(x)?;
    let mode = match ScatterMode::try_from(mode) {
        Ok(ScatterMode::ScatterUpdate) => "update",
        Ok(ScatterMode::ScatterAdd) => "add",
        Ok(ScatterMode::ScatterSub) => "sub",
        Ok(ScatterMode::ScatterMul) => "mul",
        Ok(ScatterMode::ScatterDiv) => "div",
        Ok(ScatterMode::ScatterMax) => "max",
        Ok(ScatterMode::ScatterMin) => "min",
        Err(_) => return Err(Error::unsupported("an unknown mode")),
    };
    let (data, indices, updates) = (n.float_of(data)?, n.int_of(indices)?, n.float_of(updates)?);
    let mut inputs = vec![
        Input::value(param!(Scatter.data), data),
        Input::value(param!(Scatter.indices), indices),
        Input::value(param!(Scatter.updates), updates),
        Input::constant(param!(Scatter.mode), Value::string(mode)),
    ];
    if let Some(axis) = axis {
        inputs.push(Input::constant(param!(Scatter.axis), Value::int(i32_from(axis))));
    }
    n.op(kind, inputs)
}

impl Net {
    /// Converts the value to a number: bools become floats.
    pub fn number(&mut self, value: ValueId) -> Result<ValueId> {
        if self.ty(value)?.dtype == DType::Bool { self.float_of(value) } else { Ok(value) }
    }
}
