//! `resize_bilinear`

use super::sampling::{Sampling, resized, size};
use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

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
    ResizeBilinear,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("x", Kind::T),
            optional("target_size_height", Kind::INT32, Default::Int(1)).constant(),
            optional("target_size_width", Kind::INT32, Default::Int(1)).constant(),
            optional("sampling_mode", Kind::STRING, Default::Str("DEFAULT")).constant(),
        ],
        types: &[("T", &[Fp16, Fp32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    Sampling::from_name(op.str("sampling_mode")?)?;
    let (height, width) = (size(op, "target_size_height")?, size(op, "target_size_width")?);
    Ok(vec![resized(op.tensor("x")?, height, width)?.into()])
}
