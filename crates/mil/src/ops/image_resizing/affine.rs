//! `affine`

use super::sampling::size;
use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Dim, TensorType};

op! {
    /// Samples images at positions that an affine map gives.
    ///
    /// `x` is [b, c, h, w]; each row [a₀ a₁ a₂ b₀ b₁ b₂] of `transform_matrix` (one, or one for each image) takes the
    /// position (x, y) in the output to (a₀x + a₁y + a₂, b₀x + b₁y + b₂) in the input. Both images span -1 to 1
    /// (`coordinates_mode` is `normalized_minus_one_to_one`), with `align_corners` from the centre of the first element
    /// to that of the last, otherwise from edge to edge. Sampling is `bilinear`; outside of `x` there is `padding_value`, which must be 0
    /// (`padding_mode` is `constant`).
    Affine since Ios15 {
        x: Operand<T>,
        transform_matrix: Operand<T>,
        output_height: i64,
        output_width: i64,
        sampling_mode: Str,
        padding_mode: Str,
        padding_value: f32<T>,
        coordinates_mode: Str,
        align_corners: bool,
    }
    where T: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, matrix) = (p.x, p.transform_matrix);
    require!(x.rank() == 4, "input `x` must have rank 4, not {}", x.rank());
    require!(
        matrix.rank() == 2 && matrix.shape[1].agrees(Dim::Fixed(6)),
        "input `transform_matrix` must have rows of 6 elements, not {matrix}"
    );
    require!(
        matrix.shape[0].fixed().is_none_or(|n| n == 1) || matrix.shape[0].agrees(x.shape[0]),
        "`transform_matrix` has {} rows for {} images",
        matrix.shape[0],
        x.shape[0]
    );
    for (name, value, only) in [
        ("sampling_mode", p.sampling_mode, "bilinear"),
        ("padding_mode", p.padding_mode, "constant"),
        ("coordinates_mode", p.coordinates_mode, "normalized_minus_one_to_one"),
    ] {
        require!(value.eq_ignore_ascii_case(only), "input `{name}` is \"{value}\"; it can be {only}");
    }
    require!(p.padding_value == 0.0, "input `padding_value` must be 0");
    let (height, width) = (size("output_height", p.output_height)?, size("output_width", p.output_width)?);
    let shape = [x.shape[0], x.shape[1], height, width];
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
