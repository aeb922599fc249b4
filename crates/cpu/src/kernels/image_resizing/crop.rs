//! `crop`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Crop;
use milwright_mil::ops::image_resizing::crop::edges;

use crate::index::strides;
use crate::kernel::{OpViewExt, concrete};
use crate::kernels::tensor::moves::{walk, walk_step};
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Crop {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let own = strides(&op.shape("x")?);
        let ([top, _], [left, _]) = (edges(op, "crop_height")?, edges(op, "crop_width")?);
        let offset = top * own[own.len() - 2] + left;
        Ok(walk_step(op.slot("x")?, walk(&concrete(&outputs[0])?, &own, offset)))
    }
}
