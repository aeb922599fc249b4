//! The sampling modes of the resizing ops, and their type inference.

use crate::ops::InferError;
use crate::{Dim, TensorType};

/// A sampling mode: where the positions of output samples are on the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// The first and last samples are the first and last elements; a single sample is the first.
    StrictAlignCorners,
    /// The first and last samples are the first and last elements; a single sample is the middle.
    AlignCorners,
    /// Samples begin at the first element, spaced as if one more followed the last.
    Default,
    /// Each sample is in the middle of its share of the distance between the first and last element.
    OffsetCorners,
    /// Each sample is in the middle of its share of the input, elements being squares (half-pixel centres).
    UnalignCorners,
}

impl Sampling {
    /// The mode of this name in MIL.
    ///
    /// # Errors
    /// There is no such mode.
    pub fn from_name(name: &str) -> Result<Sampling, InferError> {
        Ok(match name {
            "STRICT_ALIGN_CORNERS" => Sampling::StrictAlignCorners,
            "ALIGN_CORNERS" => Sampling::AlignCorners,
            "DEFAULT" => Sampling::Default,
            "OFFSET_CORNERS" => Sampling::OffsetCorners,
            "UNALIGN_CORNERS" => Sampling::UnalignCorners,
            _ => {
                let known = "STRICT_ALIGN_CORNERS, ALIGN_CORNERS, DEFAULT, OFFSET_CORNERS or UNALIGN_CORNERS";
                return Err(InferError(format!("input `sampling_mode` is \"{name}\"; it can be {known}")));
            }
        })
    }
}

/// Returns the type of `x` with the last two dimensions replaced.
pub(super) fn resized(x: &TensorType, height: Dim, width: Dim) -> Result<TensorType, InferError> {
    require!(x.rank() >= 3, "input `x` must have at least rank 3, not {}", x.rank());
    let mut shape = x.shape.clone();
    let n = shape.len();
    (shape[n - 2], shape[n - 1]) = (height, width);
    Ok(TensorType::new(x.dtype, shape))
}

/// Returns an integer parameter as a positive size.
pub(super) fn size(name: &str, n: i64) -> Result<Dim, InferError> {
    require!(n > 0, "input `{name}` must be positive, not {n}");
    Ok(Dim::Fixed(n as usize))
}

/// Returns the type of `x` with the last two dimensions scaled by `scale_factor_height` and `scale_factor_width`,
/// rounded down.
pub(super) fn scaled(x: &TensorType, height: f32, width: f32) -> Result<TensorType, InferError> {
    require!(x.rank() >= 3, "input `x` must have at least rank 3, not {}", x.rank());
    let scale = |name: &str, factor: f32, d: Dim| {
        require!(factor.is_finite() && factor > 0.0, "input `{name}` must be positive, not {factor}");
        let size = |n: usize| (f64::from(factor) * n as f64).floor();
        let limit = (1u64 << 40) as f64;
        Ok(d.map(|n| Some(size(n)).filter(|&n| n < limit).map(|n| n as usize)))
    };
    let n = x.rank();
    let height = scale("scale_factor_height", height, x.shape[n - 2])?;
    let width = scale("scale_factor_width", width, x.shape[n - 1])?;
    resized(x, height, width)
}
