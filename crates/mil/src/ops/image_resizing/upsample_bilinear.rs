//! `upsample_bilinear`

use super::sampling::scaled;
use crate::op;

op! {
    /// Scales the last two dimensions of `x` by factors, by linear interpolation.
    ///
    /// The new sizes are rounded down, and positions follow from the sizes, not the factors. For n elements and m
    /// samples, sample i is at i · (n - 1) / (m - 1) with `align_corners`; otherwise at (i + 0.5) · n / m - 0.5 with
    /// `half_pixel_centers`, and at i · n / m without. Positions are moved into range. `half_pixel_centers` came with
    /// iOS16; where it is not given it is the opposite of `align_corners`.
    UpsampleBilinear since Ios13, Ios16 {
        x: Operand<T>,
        scale_factor_height: f32<U> = 1.0,
        scale_factor_width: f32<U> = 1.0,
        align_corners: bool = true,
        half_pixel_centers: Option<bool> since Ios16,
    }
    where T: [Fp16, Fp32], U: [Fp32, Int32]
    => |p| Ok(vec![scaled(&p.x, p.scale_factor_height, p.scale_factor_width)?.into()])
}
