//! `upsample_bilinear`

use super::sampling::scaled;
use crate::DType::{Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// Scales the last two dimensions of `x` by factors, by linear interpolation.
    ///
    /// The new sizes are rounded down, and positions follow from the sizes, not the factors. For n elements and m
    /// samples, sample i is at i · (n - 1) / (m - 1) with `align_corners`; otherwise at (i + 0.5) · n / m - 0.5 with
    /// `half_pixel_centers`, and at i · n / m without. Positions are moved into range. `half_pixel_centers` came with
    /// iOS16; where it is not given it is the opposite of `align_corners`.
    UpsampleBilinear,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[
                required("x", Kind::T),
                optional("scale_factor_height", Kind::Var("U"), Default::Float(1.0)).constant(),
                optional("scale_factor_width", Kind::Var("U"), Default::Float(1.0)).constant(),
                optional("align_corners", Kind::BOOL, Default::Bool(true)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32]), ("U", &[Int32, Fp32])],
        },
        Version {
            opset: Opset::Ios16,
            params: &[
                required("x", Kind::T),
                optional("scale_factor_height", Kind::Var("U"), Default::Float(1.0)).constant(),
                optional("scale_factor_width", Kind::Var("U"), Default::Float(1.0)).constant(),
                optional("align_corners", Kind::BOOL, Default::Bool(true)).constant(),
                optional("half_pixel_centers", Kind::BOOL, Default::Absent).constant(),
            ],
            types: &[("T", &[Fp16, Fp32]), ("U", &[Int32, Fp32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    op.bool("align_corners")?;
    Ok(vec![scaled(op)?.into()])
}
