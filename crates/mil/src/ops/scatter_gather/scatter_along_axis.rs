//! `scatter_along_axis`

use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// `data` with single elements along `axis` combined with those of `updates`.
    ///
    /// `indices` and `updates` have the shape of `data` except along `axis`: the element of `updates` at a place goes
    /// to the same place of `data`, but to the index found there along `axis`. `mode` is as for `scatter`,
    /// indices as for `gather`.
    ScatterAlongAxis since Ios13, Ios17 {
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
    super::scatter::mode(p.mode)?;
    super::gather_along_axis::same_but_axis("data", &data, &indices, axis)?;
    let wanted = crate::TensorType::new(data.dtype, indices.shape.clone());
    require!(updates.agrees(&wanted), "input `updates` is {updates}; it must be {wanted}");
    Ok(vec![data.into()])
}
