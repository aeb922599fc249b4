//! `scatter_along_axis`

use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// `data` with single elements along `axis` combined with those of `updates`.
    ///
    /// `indices` and `updates` have the shape of `data` except along `axis`: the element of `updates` at a place goes
    /// to the same place of `data`, but to the index found there along `axis`. `mode` is as for `scatter`,
    /// indices as for `gather`.
    ScatterAlongAxis,
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
    super::scatter::mode(op)?;
    super::gather_along_axis::same_but_axis("data", data, indices, axis)?;
    let wanted = crate::TensorType::new(data.dtype, indices.shape.clone());
    require!(updates.agrees(&wanted), "input `updates` is {updates}; it must be {wanted}");
    Ok(vec![data.clone().into()])
}
