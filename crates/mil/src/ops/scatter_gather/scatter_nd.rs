//! `scatter_nd`

use crate::Dim;
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// `data` with slices at index vectors combined with those of `updates`.
    ///
    /// Each vector along the last dimension of `indices` names a place in the first dimensions of `data`; the slice
    /// of `updates` for it goes there, in order. `mode` is as for `scatter`, indices as for `gather`.
    ScatterNd since Ios13, Ios17 {
        data: Operand<T>,
        indices: Operand<[Int32]>,
        updates: Operand<T>,
        mode: Str = "add",
        validate_indices: bool since Ios17 = false,
    }
    where T: [Fp16, Fp32, Int32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (data, indices, updates) = (p.data, p.indices, p.updates);
    super::scatter::mode(p.mode)?;
    let Some((&Dim::Fixed(depth), places)) = indices.shape.split_last() else {
        return Err(InferError("`indices` must have a last dimension of known size".into()));
    };
    require!(depth <= data.rank(), "an index has {depth} elements; `data` has rank {}", data.rank());
    let wanted = crate::TensorType::new(data.dtype, [places, &data.shape[depth..]].concat());
    require!(updates.agrees(&wanted), "input `updates` is {updates}; it must be {wanted}");
    Ok(vec![data.into()])
}
