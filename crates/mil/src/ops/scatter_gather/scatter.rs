//! `scatter`

use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// `data` with slices along `axis` combined with those of `updates`.
    ///
    /// `indices` is a vector; slice i of `updates` goes to slice `indices[i]` of `data`, in order. `mode` says how:
    /// `update` replaces; `add`, `sub`, `mul`, `div`, `max` and `min` compute with what is there. Negative indices count
    /// from the end. From iOS17 on they are out of range, and what is goes nowhere, or, with `validate_indices`, is an
    /// error.
    Scatter since Ios13, Ios17 {
        data: Operand<T>,
        indices: Operand<[Int32]>,
        updates: Operand<T>,
        axis: Axis = 0,
        mode: Str = "add",
        validate_indices: bool since Ios17 = false,
    }
    where T: [Fp16, Fp32, Int32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (data, indices, updates) = (p.data, p.indices, p.updates);
    let axis = p.axis.resolve(data.rank())?;
    mode(p.mode)?;
    let wanted = [&data.shape[..axis], &indices.shape, &data.shape[axis + 1..]].concat();
    let wanted = crate::TensorType::new(data.dtype, wanted);
    require!(updates.agrees(&wanted), "input `updates` is {updates}; it must be {wanted}");
    Ok(vec![data.into()])
}

/// The function that combines an update with the old element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The update replaces it.
    Update,
    /// Their sum.
    Add,
    /// The update is subtracted from it.
    Sub,
    /// Their product.
    Mul,
    /// It is divided by the update.
    Div,
    /// The larger.
    Max,
    /// The smaller.
    Min,
}

/// Returns the parameter `mode` of a scatter op.
///
/// # Errors
/// There is no such mode.
pub fn mode(name: &str) -> Result<Mode, InferError> {
    Ok(match name {
        "update" => Mode::Update,
        "add" => Mode::Add,
        "sub" => Mode::Sub,
        "mul" => Mode::Mul,
        "div" => Mode::Div,
        "max" => Mode::Max,
        "min" => Mode::Min,
        other => {
            let known = "update, add, sub, mul, div, max or min";
            return Err(InferError(format!("input `mode` is \"{other}\"; it can be {known}")));
        }
    })
}
