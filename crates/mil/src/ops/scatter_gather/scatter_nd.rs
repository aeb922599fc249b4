//! `scatter_nd`

use crate::DType::{Fp16, Fp32, Int32};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Dim, Opset};

op! {
    /// `data` with slices at index vectors combined with those of `updates`.
    ///
    /// Each vector along the last dimension of `indices` names a place in the first dimensions of `data`; the slice
    /// of `updates` for it goes there, in order. `mode` is as for `scatter`, indices as for `gather`.
    ScatterNd,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[
                required("data", Kind::T),
                required("indices", Kind::INT32),
                required("updates", Kind::T),
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
    super::scatter::mode(op)?;
    let Some((&Dim::Fixed(depth), places)) = indices.shape.split_last() else {
        return Err(InferError("`indices` must have a last dimension of known size".into()));
    };
    require!(depth <= data.rank(), "an index has {depth} elements; `data` has rank {}", data.rank());
    let wanted = crate::TensorType::new(data.dtype, [places, &data.shape[depth..]].concat());
    require!(updates.agrees(&wanted), "input `updates` is {updates}; it must be {wanted}");
    Ok(vec![data.clone().into()])
}
