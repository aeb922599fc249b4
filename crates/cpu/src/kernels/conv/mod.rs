//! Convolutions.

#[expect(clippy::module_inception, reason = "the op has its family's name")]
mod conv;
mod conv_quantized;
mod conv_transpose;
pub(crate) use conv::{pad_3d, to_3d};
