//! `pixel_unshuffle`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::PixelUnshuffle;

use super::moves::{blocks, strides4};
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for PixelUnshuffle {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (shape, f) = (concrete(&p.x)?, p.downscale_factor as usize);
        let [n, c, h, w] = strides4(&shape);
        let sizes = [shape[0], shape[1], f, f, shape[2] / f, shape[3] / f];
        Ok(blocks(p.x.slot, &sizes, &[n, c, h, w, f * h, f * w]))
    }
}
