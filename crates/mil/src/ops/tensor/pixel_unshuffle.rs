//! `pixel_unshuffle`

use crate::op;

op! {
    /// Moves spatial blocks of `x` into its channels, block offsets innermost; the inverse of `pixel_shuffle`.
    ///
    /// With f = `downscale_factor`, `x` of shape [n, c, h · f, w · f] becomes [n, c · f · f, h, w]: offset (i, j) of
    /// the blocks of channel k goes to channel (k · f + i) · f + j.
    PixelUnshuffle since Ios16 {
        x: Operand<T>,
        downscale_factor: i64<[UInt32]>,
    }
    where T: [Fp16, Fp32]
    => |p| super::depth_to_space::space_to_channels(p.x, "downscale_factor", p.downscale_factor)
}
