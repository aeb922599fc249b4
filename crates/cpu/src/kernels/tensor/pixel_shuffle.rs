//! `pixel_shuffle`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::PixelShuffle;

use super::moves::{blocks, strides4};
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for PixelShuffle {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (shape, f) = (op.shape("x")?, op.int("upscale_factor")? as usize);
        let [n, c, h, w] = strides4(&shape);
        let sizes = [shape[0], shape[1] / (f * f), shape[2], f, shape[3], f];
        Ok(blocks(op.slot("x")?, &sizes, &[n, f * f * c, h, f * c, w, c]))
    }
}
