//! Resizing, cropping and resampling of images.

mod affine;
mod crop;
mod crop_resize;
mod grid;
mod lines;
mod resample;
mod resize;
mod resize_bilinear;
mod resize_nearest_neighbor;
mod upsample_bilinear;
mod upsample_nearest_neighbor;
