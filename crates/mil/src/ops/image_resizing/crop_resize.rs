//! `crop_resize`

use super::sampling::{Sampling, size};
use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Dim, TensorType};

op! {
    /// Cuts boxes out of images and resizes each to `target_height` × `target_width`, bilinearly.
    ///
    /// `x` is [b, c, h, w]. Until iOS16, `roi` is [n, 1, 4, 1, 1], boxes for every image, with a result of
    /// [n, b, c, height, width]; or [n, 1, 5, 1, 1], each box preceded by the index of its image, with a result of
    /// [n, 1, c, height, width]. From iOS17 on, `boxes` is [n, 4] and `box_indices` names the images (by default box
    /// i is for image i), with a result of [n, c, height, width].
    ///
    /// `box_coordinate_mode` says what a box is: `CORNERS_` (start and end) or `CENTER_SIZE_`, `HEIGHT_FIRST` or
    /// `WIDTH_FIRST`. Coordinates are multiplied by `spatial_scale`; with `normalized_coordinates` they go from 0 to
    /// 1 over the centres of the first and last element. `sampling_mode` is as for `resize_bilinear`, over the box.
    /// Samples outside of the image are `pad_value` (0 before iOS16).
    CropResize since Ios13, Ios16, Ios17 {
        x: Operand<T>,
        boxes: Within<Operand<BOX_T>> since Ios17,
        box_indices: Option<Operand<BOX_INDEX_T>> since Ios17,
        roi: Within<Operand<T>> until Ios17,
        target_height: i64 = 1,
        target_width: i64 = 1,
        normalized_coordinates: bool = false,
        spatial_scale: f32<[Fp32]> = 1.0,
        box_coordinate_mode: Str = "CORNERS_HEIGHT_FIRST",
        sampling_mode: Str = "DEFAULT",
        pad_value: f32<T> since Ios16 = 0.0,
    }
    where T: [Fp16, Fp32], BOX_T: since Ios17 [Fp16, Fp32, UInt16], BOX_INDEX_T: since Ios17 [Int32, UInt16]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    require!(x.rank() == 4, "input `x` must have rank 4, not {}", x.rank());
    let (height, width) = (size("target_height", p.target_height)?, size("target_width", p.target_width)?);
    Sampling::from_name(p.sampling_mode)?;
    box_mode(p.box_coordinate_mode)?;
    if let Some(boxes) = p.boxes {
        require!(
            boxes.rank() == 2 && boxes.shape[1].agrees(Dim::Fixed(4)),
            "input `boxes` must have rows of 4 elements, not {boxes}"
        );
        if let Some(indices) = p.box_indices {
            let fits = indices.rank() == 1 && indices.shape[0].agrees(boxes.shape[0]);
            require!(fits, "input `box_indices` is {indices} for {} boxes", boxes.shape[0]);
        }
        return Ok(vec![TensorType::new(x.dtype, [boxes.shape[0], x.shape[1], height, width]).into()]);
    }
    let roi = p.roi.ok_or_else(|| InferError("input `roi` is missing".into()))?;
    let ones = |d: usize| roi.shape[d].agrees(Dim::Fixed(1));
    require!(
        roi.rank() == 5 && ones(1) && ones(3) && ones(4),
        "input `roi` must be [n, 1, 4, 1, 1] or [n, 1, 5, 1, 1], not {roi}"
    );
    let images = match roi.shape[2] {
        Dim::Fixed(4) => x.shape[0],
        Dim::Fixed(5) => Dim::Fixed(1),
        d => return Err(InferError(format!("a box in `roi` has 4 or 5 elements, not {d}"))),
    };
    // If each box names its image, only the declared type has the number of images.
    let declared = p.view.outputs.first().and_then(|t| t.as_tensor()).filter(|t| t.rank() == 5);
    let images = match declared.map(|t| t.shape[1]) {
        Some(Dim::Fixed(n)) if roi.shape[2] == Dim::Fixed(5) => Dim::Fixed(n),
        _ => images,
    };
    Ok(vec![TensorType::new(x.dtype, [roi.shape[0], images, x.shape[1], height, width]).into()])
}

/// The meaning of a box's four numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoxMode {
    /// Centre and size, instead of start and end.
    pub center: bool,
    /// Width before height.
    pub width_first: bool,
}

/// Returns the box mode of this name.
///
/// # Errors
/// There is no such mode.
pub fn box_mode(name: &str) -> Result<BoxMode, InferError> {
    let (center, width_first) = match name {
        "CORNERS_HEIGHT_FIRST" => (false, false),
        "CORNERS_WIDTH_FIRST" => (false, true),
        "CENTER_SIZE_HEIGHT_FIRST" => (true, false),
        "CENTER_SIZE_WIDTH_FIRST" => (true, true),
        _ => {
            let known = "CORNERS_ or CENTER_SIZE_, then HEIGHT_FIRST or WIDTH_FIRST";
            return Err(InferError(format!("input `box_coordinate_mode` is \"{name}\"; it can be {known}")));
        }
    };
    Ok(BoxMode { center, width_first })
}
