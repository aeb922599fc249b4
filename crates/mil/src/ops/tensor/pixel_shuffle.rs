//! `pixel_shuffle`

use crate::DType::{Fp16, Fp32};
use crate::Opset;
use crate::op;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// Moves channels of `x` into its two spatial dimensions, block offsets innermost in the channels (as PyTorch's
    /// `PixelShuffle`).
    ///
    /// With f = `upscale_factor`, `x` of shape [n, c · f · f, h, w] becomes [n, c, h · f, w · f]: channel
    /// (k · f + i) · f + j goes to offset (i, j) of the blocks of channel k.
    PixelShuffle,
    &[Version {
        opset: Opset::Ios13,
        params: &[required("x", Kind::T), required("upscale_factor", Kind::INT32).constant()],
        types: &[("T", &[Fp16, Fp32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    super::depth_to_space::channels_to_space(op, "upscale_factor")
}
