//! `scatter`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// `data` with slices along `axis` combined with those of `updates`.
    ///
    /// `indices` is a vector; slice i of `updates` goes to slice `indices[i]` of `data`, in order. `mode` says how:
    /// `update` replaces; `add`, `sub`, `mul`, `div`, `max` and `min` compute with what is there. Negative indices count
    /// from the end. From iOS17 on they are out of range, and what is goes nowhere, or, with `validate_indices`, is an
    /// error.
    Scatter,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[
                required("data", Kind::T),
                required("indices", Kind::INT32),
                required("updates", Kind::T),
                optional("axis", Kind::INT32, Default::Int(0)).constant(),
                optional("mode", Kind::STRING, Default::Str("add")).constant(),
            ],
            types: &[("T", &[Fp16, Fp32, Int32])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("data", Kind::T),
                required("indices", Kind::INT32),
                required("updates", Kind::T),
                optional("axis", Kind::INT32, Default::Int(0)).constant(),
                optional("mode", Kind::STRING, Default::Str("add")).constant(),
                optional("validate_indices", Kind::BOOL, Default::Bool(false)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32, Int32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (data, indices, updates) = (op.tensor("data")?, op.tensor("indices")?, op.tensor("updates")?);
    let axis = op.axis("axis", data.rank())?;
    mode(op)?;
    let wanted = [&data.shape[..axis], &indices.shape, &data.shape[axis + 1..]].concat();
    let wanted = crate::TensorType::new(data.dtype, wanted);
    require!(updates.agrees(&wanted), "input `updates` is {updates}; it must be {wanted}");
    Ok(vec![data.clone().into()])
}

/// How an update is combined with what is there.
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

/// The parameter `mode` of a scatter op.
///
/// # Errors
/// There is no such mode.
pub fn mode(op: &OpView<'_>) -> Result<Mode, InferError> {
    Ok(match op.str("mode")? {
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
