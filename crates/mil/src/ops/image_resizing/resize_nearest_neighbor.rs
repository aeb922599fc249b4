//! `resize_nearest_neighbor`

use super::sampling::{resized, size};
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Resizes the last two dimensions of `x` to a given size, repeating or leaving out elements.
    ///
    /// For n elements and m samples, sample i is element ⌊i · n / m⌋.
    ResizeNearestNeighbor since Ios13 {
        x: Operand<T>,
        target_size_height: i64,
        target_size_width: i64,
    }
    where T: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (height, width) =
        (size("target_size_height", p.target_size_height)?, size("target_size_width", p.target_size_width)?);
    Ok(vec![resized(&p.x, height, width)?.into()])
}
