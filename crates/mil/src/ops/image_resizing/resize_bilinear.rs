//! `resize_bilinear`

use super::sampling::{Sampling, resized, size};
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Resizes the last two dimensions of `x` to a given size, by linear interpolation.
    ///
    /// `sampling_mode` says where the samples are, for n elements and m samples, each position moved into range:
    ///
    /// * `STRICT_ALIGN_CORNERS`, `ALIGN_CORNERS`: sample i at i · (n - 1) / (m - 1); a single sample at 0,
    ///   or for `ALIGN_CORNERS` in the middle;
    /// * `DEFAULT`: at i · n / m;
    /// * `OFFSET_CORNERS`: at (i + 0.5) · max(1, n - 1) / m;
    /// * `UNALIGN_CORNERS`: at (i + 0.5) · n / m - 0.5.
    ResizeBilinear since Ios13 {
        x: Operand<T>,
        target_size_height: i64 = 1,
        target_size_width: i64 = 1,
        sampling_mode: Str = "DEFAULT",
    }
    where T: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    Sampling::from_name(p.sampling_mode)?;
    let (height, width) =
        (size("target_size_height", p.target_size_height)?, size("target_size_width", p.target_size_width)?);
    Ok(vec![resized(&p.x, height, width)?.into()])
}
