//! `gather_nd`

use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Dim, TensorType};

op! {
    /// Takes slices of `x` by index vectors.
    ///
    /// Each vector along the last dimension of `indices` names a place in the first dimensions of `x` (after
    /// `batch_dims` of them, which both share from iOS16 on); the result has the slice of `x` there. Indices are as
    /// for `gather`.
    GatherNd since Ios13, Ios16, Ios17 {
        x: Operand<T>,
        indices: Operand<[Int32] until Ios16, I>,
        batch_dims: i64 since Ios16 = 0,
        validate_indices: bool since Ios17 = false,
    }
    where
        T: [Fp16, Fp32, Int32] since Ios17 [Int8, Int16, UInt8, UInt16],
        I: since Ios16 [Int16, Int32, UInt16] since Ios17 [Int8, UInt8]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, indices) = (p.x, p.indices);
    let batch = p.batch_dims;
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
