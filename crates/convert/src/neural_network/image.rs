//! Ops on height and width: cropping, padding, resizing.

use milwright_formats::proto::box_coordinates_mode::Coordinates;
use milwright_formats::proto::padding_layer_params::PaddingType;
use milwright_formats::proto::reorganize_data_layer_params::ReorganizationType;
use milwright_formats::proto::sampling_mode::Method;
use milwright_formats::proto::upsample_layer_params::{InterpolationMode, LinearUpsampleMode};
use milwright_formats::proto::{
    ConstantPaddingLayerParams, CropLayerParams, CropResizeLayerParams, PaddingLayerParams,
    ReorganizeDataLayerParams, ResizeBilinearLayerParams, SamplingMode, UpsampleLayerParams,
};
use milwright_mil::{Input, OpKind, Value, ValueId, param};

use super::convolution::{borders, two};
use super::net::Net;
use crate::Error;
use crate::lower::{Result, Size, first, i32_of, op, take, too_low, usize_of, with_rank};

pub(super) fn crop(n: &mut Net, x: &[ValueId], p: &CropLayerParams) -> Result<ValueId> {
    let [image] = first(x)?;
    let image = n.float_of(image)?;
    let rank = n.rank(image)?;
    match x {
        [_] => {
            let [top, bottom, left, right] = borders(p.crop_amounts.as_ref())?;
            let (height, width) = ([top, bottom], [left, right]);
            op!(n, Crop, x = image, crop_height = &height[..], crop_width = &width[..])
        }
        [_, like] => {
            let (like, like_rank) = (*like, n.rank(*like)?);
            if rank < 3 || like_rank < 2 {
                return Err(too_low(rank.min(like_rank), 3));
            }
            let offset = two(&p.offset, 0)?;
            let mut begin = vec![0; rank];
            begin[rank - 2..].copy_from_slice(&offset);
            let mut sizes: Vec<Size> = (0..rank - 2).map(|d| Size::Of(image, d..d + 1)).collect();
            sizes.extend((like_rank - 2..like_rank).map(|d| Size::Of(like, d..d + 1)));
            let size = n.shape(&sizes)?;
            op!(n, SliceBySize, x = image, begin = &begin[..], size = size)
        }
        _ => Err(Error::malformed(format!("takes 1 or 2 inputs, not {}", x.len()))),
    }
}

pub(super) fn padding(n: &mut Net, x: &[ValueId], p: &PaddingLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let pad = borders(p.padding_amounts.as_ref())?;
    let (mode, value) = match &p.padding_type {
        Some(PaddingType::Reflection(_)) => ("reflect", 0.0),
        Some(PaddingType::Replication(_)) => ("replicate", 0.0),
        Some(PaddingType::Constant(constant)) => ("constant", constant.value),
        None => ("constant", 0.0),
    };
    op!(n, Pad, x = x, pad = &pad[..], mode = mode, constant_val = value)
}

pub(super) fn constant_pad(n: &mut Net, x: &[ValueId], p: &ConstantPaddingLayerParams) -> Result<ValueId> {
    let [image] = first(x)?;
    let image = n.float_of(image)?;
    let rank = n.rank(image)?;
    let mut amounts = match x {
        [_] => p.pad_amounts.iter().map(|&a| i32_of(a)).collect::<Result<Vec<i32>>>()?,
        [_, amounts] => match n.known_integers(*amounts) {
            Some(known) => known.iter().map(|&a| crate::lower::i32_from(a)).collect(),
            None if p.pad_to_given_output_size_mode => {
                return Err(Error::unsupported("padding to a size that is computed"));
            }
            None => {
                let pad = n.int_of(*amounts)?;
                return op!(n, Pad, x = image, pad = pad, mode = "constant", constant_val = p.value);
            }
        },
        _ => return Err(Error::malformed(format!("takes 1 or 2 inputs, not {}", x.len()))),
    };
    if amounts.len() != 2 * rank {
        return Err(Error::malformed(format!("{} amounts for a tensor of rank {rank}", amounts.len())));
    }
    if p.pad_to_given_output_size_mode {
        for axis in 0..rank {
            let size = i32_of(n.size(image, axis)? as u64)?;
            for amount in &mut amounts[2 * axis..2 * axis + 2] {
                *amount = if *amount > 0 { amount.saturating_sub(size).max(0) } else { 0 };
            }
        }
    }
    op!(n, Pad, x = image, pad = &amounts[..], mode = "constant", constant_val = p.value)
}

pub(super) fn upsample(n: &mut Net, x: &[ValueId], p: &UpsampleLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let [h, w] = match (&p.scaling_factor[..], &p.fractional_scaling_factor[..]) {
        ([], []) => [1.0, 1.0],
        ([h, w], []) => [*h as f32, *w as f32],
        ([], [h, w]) => [*h, *w],
        _ => return Err(Error::malformed("scaling factors of a wrong number")),
    };
    if p.mode == i32::from(InterpolationMode::Nn) {
        return op!(n, UpsampleNearestNeighbor, x = x, scale_factor_height = h, scale_factor_width = w);
    }
    let mode = LinearUpsampleMode::try_from(p.linear_upsample_mode);
    let (corners, half) = match mode {
        Ok(LinearUpsampleMode::AlignCornersTrue) => (true, false),
        Ok(LinearUpsampleMode::AlignCornersFalse) => (false, true),
        _ => (false, false),
    };
    op!(
        n,
        UpsampleBilinear,
        x = x,
        scale_factor_height = h,
        scale_factor_width = w,
        align_corners = corners,
        half_pixel_centers = half
    )
}

pub(super) fn resize_bilinear(n: &mut Net, x: &[ValueId], p: &ResizeBilinearLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let target = two(&p.target_size, 1)?;
    op!(
        n,
        ResizeBilinear,
        x = x,
        target_size_height = target[0],
        target_size_width = target[1],
        sampling_mode = sampling(p.mode.as_ref())
    )
}

fn sampling(mode: Option<&SamplingMode>) -> &'static str {
    match mode.map(|m| Method::try_from(m.sampling_method)) {
        Some(Ok(Method::AlignEndpointsMode)) => "ALIGN_CORNERS",
        Some(Ok(Method::UpsampleMode)) => "DEFAULT",
        Some(Ok(Method::RoiAlignMode)) => "OFFSET_CORNERS",
        _ => "STRICT_ALIGN_CORNERS",
    }
}

pub(super) fn crop_resize(n: &mut Net, x: &[ValueId], p: &CropResizeLayerParams) -> Result<ValueId> {
    let [images, boxes] = take(x)?;
    let (mut images, boxes) = (n.float_of(images)?, n.float_of(boxes)?);
    if n.rank(images)? == 5 {
        images = op!(n, Squeeze, x = images, axes = &[0][..])?;
    }
    let mode = p.box_indices_mode.as_ref().and_then(|m| Coordinates::try_from(m.box_mode).ok());
    let target = two(&p.target_size, 1)?;
    let scale = if p.spatial_scale == 0.0 { 1.0 } else { p.spatial_scale };
    let inputs = vec![
        Input::value(param!(CropResize.x), images),
        Input::value(param!(CropResize.roi), boxes),
        Input::constant(param!(CropResize.target_height), Value::int(target[0])),
        Input::constant(param!(CropResize.target_width), Value::int(target[1])),
        Input::constant(param!(CropResize.normalized_coordinates), Value::bool(p.normalized_coordinates)),
        Input::constant(param!(CropResize.spatial_scale), Value::float(scale)),
        Input::constant(
            param!(CropResize.box_coordinate_mode),
            Value::string(mode.map_or("CORNERS_HEIGHT_FIRST", |m| m.as_str_name())),
        ),
        Input::constant(param!(CropResize.sampling_mode), Value::string(sampling(p.mode.as_ref()))),
    ];
    n.op(OpKind::CropResize, inputs)
}

pub(super) fn reorganize_data(n: &mut Net, x: &[ValueId], p: &ReorganizeDataLayerParams) -> Result<ValueId> {
    let [x] = take(x)?;
    let x = n.float_of(x)?;
    let block = i32_of(usize_of(p.block_size)? as u64)?;
    with_rank(n, x, 4, |n, x| match ReorganizationType::try_from(p.mode) {
        Ok(ReorganizationType::SpaceToDepth) => op!(n, SpaceToDepth, x = x, block_size = block),
        Ok(ReorganizationType::DepthToSpace) => op!(n, DepthToSpace, x = x, block_size = block),
        Ok(ReorganizationType::PixelShuffle) => op!(n, PixelShuffle, x = x, upscale_factor = block),
        Err(_) => Err(Error::unsupported("an unknown way to reorganize data")),
    })
}
