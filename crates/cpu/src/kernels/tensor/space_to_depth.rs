//! `space_to_depth`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::SpaceToDepth;

use super::moves::{blocks, strides4};
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for SpaceToDepth {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (shape, b) = (concrete(&p.x)?, p.block_size as usize);
        let [n, c, h, w] = strides4(&shape);
        let sizes = [shape[0], b, b, shape[1], shape[2] / b, shape[3] / b];
        Ok(blocks(p.x.slot, &sizes, &[n, h, w, c, b * h, b * w]))
    }
}
