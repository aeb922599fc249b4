//! Resizing, cropping and resampling of images.

pub mod affine;
pub mod crop;
pub mod crop_resize;
pub mod resample;
pub mod resize;
pub mod resize_bilinear;
pub mod resize_nearest_neighbor;
pub mod sampling;
pub mod upsample_bilinear;
pub mod upsample_nearest_neighbor;
