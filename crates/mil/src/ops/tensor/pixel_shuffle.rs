//! `pixel_shuffle`

use crate::op;

op! {
    /// Moves channels of `x` into its two spatial dimensions, block offsets innermost in the channels (as PyTorch's
    /// `PixelShuffle`).
    ///
    /// With f = `upscale_factor`, `x` of shape [n, c · f · f, h, w] becomes [n, c, h · f, w · f]: channel
    /// (k · f + i) · f + j goes to offset (i, j) of the blocks of channel k.
    PixelShuffle since Ios13 {
        x: Operand<T>,
        upscale_factor: i64,
    }
    where T: [Fp16, Fp32]
    => |p| super::depth_to_space::channels_to_space(p.x, "upscale_factor", p.upscale_factor)
}
