//! Branches, loops and lists.

pub mod cond;
pub mod list_gather;
pub mod list_length;
pub mod list_read;
pub mod list_scatter;
pub mod list_write;
pub mod make_list;
pub mod select;
pub mod while_loop;

use super::{Bound, InferError, Operand};
use crate::{Dim, TensorType, Type};

/// Returns a type that covers two others: sizes that differ become unknown. `None` if no type covers both.
pub(super) fn join(a: &Type, b: &Type) -> Option<Type> {
    let dim = |a: Dim, b: Dim| if a == b { a } else { Dim::Unknown };
    Some(match (a, b) {
        (Type::Tensor(a), Type::Tensor(b)) if a.dtype == b.dtype && a.rank() == b.rank() => {
            let shape: Vec<_> = a.shape.iter().zip(&b.shape).map(|(&a, &b)| dim(a, b)).collect();
            TensorType::new(a.dtype, shape).into()
        }
        (Type::List(a, n), Type::List(b, m)) => Type::List(Box::new(join(a, b)?), dim(*n, *m)),
        (a, b) if a == b => a.clone(),
        _ => return None,
    })
}

/// Returns the element type of the list `ls`.
pub(super) fn element(ls: Bound<'_>) -> Result<&TensorType, InferError> {
    match ls.ty {
        Type::List(element, _) => element.as_tensor(),
        _ => None,
    }
    .ok_or_else(|| InferError("input `ls` must be a list of tensors".into()))
}

/// Checks that `index` is one integer.
pub(super) fn one_index(index: Operand<'_>) -> Result<(), InferError> {
    match index.elements() {
        Some(1) | None => Ok(()),
        _ => Err(InferError(format!("input `index` is {index}, one integer is needed"))),
    }
}
