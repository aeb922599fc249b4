//! `space_to_depth`

use crate::op;

op! {
    /// Moves spatial blocks of `x` into its channels, block offsets outermost; the inverse of `depth_to_space`.
    ///
    /// With b = `block_size`, `x` of shape [n, c, h · b, w · b] becomes [n, b · b · c, h, w]: offset (i, j) of the
    /// blocks of channel k goes to channel (i · b + j) · c + k.
    SpaceToDepth since Ios13 {
        x: Operand<T>,
        block_size: i64,
    }
    where T: [Fp16, Fp32]
    => |p| super::depth_to_space::space_to_channels(p.x, "block_size", p.block_size)
}
