//! `resample`

use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Dim, TensorType};

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
    Resample since Ios15, Ios16, Ios17 {
        x: Operand<T>,
        coordinates: Operand<U>,
        sampling_mode: Str,
        padding_mode: Str,
        padding_value: f32<T>,
        coordinates_mode: Str,
        align_corners: bool,
    }
    where T: [Fp16, Fp32], U: [Fp32, Int32] since Ios16 [Fp16] since Ios17 [Int8, Int16, UInt8, UInt16]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, at) = (p.x, p.coordinates);
    require!(x.rank() == 4, "input `x` must have rank 4, not {}", x.rank());
    require!(
        at.rank() == 4 && at.shape[0].agrees(x.shape[0]) && at.shape[3].agrees(Dim::Fixed(2)),
        "input `coordinates` must be [{}, height, width, 2], not {at}",
        x.shape[0]
    );
    const COORDINATES: &[&str] = &["unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one"];
    for (name, value, known) in [
        ("sampling_mode", p.sampling_mode, &["bilinear", "nearest"][..]),
        ("padding_mode", p.padding_mode, &["constant", "border", "reflection", "symmetric"]),
        ("coordinates_mode", p.coordinates_mode, COORDINATES),
    ] {
        require!(known.contains(&value), "input `{name}` is \"{value}\"; it can be {}", known.join(", "));
    }
    let shape = [x.shape[0].or(at.shape[0]), x.shape[1], at.shape[1], at.shape[2]];
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
