//! `upsample_nearest_neighbor`

use super::sampling::scaled;
use crate::op;

op! {
    /// Scales the last two dimensions of `x` by factors, repeating elements.
    ///
    /// The new sizes are rounded down. For n elements and m samples, sample i is element ⌊i · n / m⌋.
    UpsampleNearestNeighbor since Ios13 {
        x: Operand<T>,
        scale_factor_height: f32<U> = 1.0,
        scale_factor_width: f32<U> = 1.0,
    }
    where T: [Fp16, Fp32], U: [Fp32, Int32]
    => |p| Ok(vec![scaled(&p.x, p.scale_factor_height, p.scale_factor_width)?.into()])
}
