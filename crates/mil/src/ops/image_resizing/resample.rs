//! `resample`

use crate::DType::{Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::op;
use crate::ops::{InferError, Inferred, Kind, OpView, Param, Version, required};
use crate::{Dim, Opset, TensorType};

op! {
    /// Samples images at given positions.
    ///
    /// `x` is [b, c, h, w], `coordinates` is [b, height, width, 2] with a position (x, y) for each sample, and the
    /// result is [b, c, height, width].
    ///
    /// * `sampling_mode`: `bilinear` or `nearest`.
    /// * `coordinates_mode`: `unnormalized` (elements), `normalized_minus_one_to_one`, or `normalized_zero_to_one`.
    /// * `align_corners`: whether normalized positions span the centres of the corner elements, or their outer edges.
    /// * `padding_mode`, what is outside of `x`: `constant` (`padding_value`), `border` (the nearest element),
    ///   `reflection` (mirrored at the edge elements), `symmetric` (mirrored at the outer edges).
    Resample,
    &[
        Version {
            opset: Opset::Ios15,
            params: PARAMS,
            types: &[("T", &[Fp16, Fp32]), ("U", &[Int32, Fp32])],
        },
        Version {
            opset: Opset::Ios16,
            params: PARAMS,
            types: &[("T", &[Fp16, Fp32]), ("U", &[Int32, Fp16, Fp32])],
        },
        Version {
            opset: Opset::Ios17,
            params: PARAMS,
            types: &[("T", &[Fp16, Fp32]), ("U", &[Int8, UInt8, Int16, UInt16, Int32, Fp16, Fp32])],
        },
    ],
    infer,
}

const PARAMS: &[Param] = &[
    required("x", Kind::T),
    required("coordinates", Kind::Var("U")),
    required("sampling_mode", Kind::STRING).constant(),
    required("padding_mode", Kind::STRING).constant(),
    required("padding_value", Kind::T).constant(),
    required("coordinates_mode", Kind::STRING).constant(),
    required("align_corners", Kind::BOOL).constant(),
];

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, at) = (op.tensor("x")?, op.tensor("coordinates")?);
    require!(x.rank() == 4, "input `x` must have rank 4, not {}", x.rank());
    require!(
        at.rank() == 4 && at.shape[0].agrees(x.shape[0]) && at.shape[3].agrees(Dim::Fixed(2)),
        "input `coordinates` must be [{}, height, width, 2], not {at}",
        x.shape[0]
    );
    for (name, known) in [
        ("sampling_mode", &["bilinear", "nearest"][..]),
        ("padding_mode", &["constant", "border", "reflection", "symmetric"]),
        ("coordinates_mode", &["unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one"]),
    ] {
        let value = op.str(name)?;
        require!(known.contains(&value), "input `{name}` is \"{value}\"; it can be {}", known.join(", "));
    }
    op.float("padding_value")?;
    op.bool("align_corners")?;
    let shape = [x.shape[0].or(at.shape[0]), x.shape[1], at.shape[1], at.shape[2]];
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
