//! Functions of single elements, with broadcasting.

use milwright_mil::{OpKind, ValueId};

use super::node::Node;
use crate::lower::{In, Result};

/// A function of one tensor that MIL has under the parameter `x`.
pub(super) fn unary(n: &mut Node<'_, '_>, kind: OpKind) -> Result<ValueId> {
    let x = n.value(0)?;
    n.op(kind, vec![In::from(x).named("x")])
}

/// A function of two tensors that MIL has under the parameters `x` and `y`.
pub(super) fn binary(n: &mut Node<'_, '_>, kind: OpKind) -> Result<ValueId> {
    let (x, y) = (n.value(0)?, n.value(1)?);
    n.op(kind, vec![In::from(x).named("x"), In::from(y).named("y")])
}
