//! `crop`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Crop;
use milwright_mil::ops::image_resizing::crop::edges;

use crate::index::strides;
use crate::kernel::concrete;
use crate::kernels::tensor::moves::{walk, walk_step};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Crop {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let own = strides(&concrete(&p.x)?);
        let ([top, _], [left, _]) =
            (edges("crop_height", &p.crop_height)?, edges("crop_width", &p.crop_width)?);
        let offset = top * own[own.len() - 2] + left;
        Ok(walk_step(p.x.slot, walk(&concrete(&outputs[0])?, &own, offset)))
    }
}
