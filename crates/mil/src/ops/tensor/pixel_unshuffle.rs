//! `pixel_unshuffle`

use crate::DType::{Fp16, Fp32, UInt32};
use crate::Opset;
use crate::op;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};

op! {
    /// Moves spatial blocks of `x` into its channels, block offsets innermost; the inverse of `pixel_shuffle`.
    ///
    /// With f = `downscale_factor`, `x` of shape [n, c, h · f, w · f] becomes [n, c · f · f, h, w]: offset (i, j) of
    /// the blocks of channel k goes to channel (k · f + i) · f + j.
    PixelUnshuffle,
    &[Version {
        opset: Opset::Ios16,
        params: &[required("x", Kind::T), required("downscale_factor", Kind::Of(&[UInt32])).constant()],
        types: &[("T", &[Fp16, Fp32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    super::depth_to_space::space_to_channels(op, "downscale_factor")
}
