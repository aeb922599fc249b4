//! `gather_nd`

use crate::DType::{Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Dim, Opset, TensorType};

op! {
    /// Takes slices of `x` by index vectors.
    ///
    /// Each vector along the last dimension of `indices` names a place in the first dimensions of `x` (after
    /// `batch_dims` of them, which both share from iOS16 on); the result has the slice of `x` there. Indices are as
    /// for `gather`.
    GatherNd,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[required("x", Kind::T), required("indices", Kind::INT32)],
            types: &[("T", &[Fp16, Fp32, Int32])],
        },
        Version {
            opset: Opset::Ios16,
            params: &[
                required("x", Kind::T),
                required("indices", Kind::Var("I")),
                optional("batch_dims", Kind::INT32, Default::Int(0)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32, Int32]), ("I", &[Int16, Int32, UInt16])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                required("indices", Kind::Var("I")),
                optional("batch_dims", Kind::INT32, Default::Int(0)).constant(),
                optional("validate_indices", Kind::BOOL, Default::Bool(false)).constant(),
            ],
            types: &[
                ("T", &[Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16]),
                ("I", &[Int8, Int16, Int32, UInt8, UInt16]),
            ],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, indices) = (op.tensor("x")?, op.tensor("indices")?);
    let batch = if op.version.opset < Opset::Ios16 { 0 } else { op.int("batch_dims")? };
    let Some((&depth, places)) = indices.shape.split_last() else {
        return Err(InferError("input `indices` is a scalar; it must have at least one dimension".into()));
    };
    let Dim::Fixed(depth) = depth else {
        return Err(InferError("the last dimension of `indices` must be known".into()));
    };
    require!(
        (0..=places.len().min(x.rank()) as i64).contains(&batch),
        "input `batch_dims` is {batch}; `x` has rank {}, `indices` has {}",
        x.rank(),
        indices.rank()
    );
    let batch = batch as usize;
    require!(
        depth <= x.rank() - batch,
        "an index has {depth} elements; `x` has {} dimensions after its batches",
        x.rank() - batch
    );
    for (d, (&a, &b)) in x.shape.iter().zip(&places[..batch]).enumerate() {
        require!(a.agrees(b), "`x` is {a} in batch dimension {d}, `indices` is {b}");
    }
    Ok(vec![TensorType::new(x.dtype, [places, &x.shape[batch + depth..]].concat()).into()])
}
