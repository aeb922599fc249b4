//! `depth_to_space`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::DepthToSpace;

use super::moves::{blocks, strides4};
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for DepthToSpace {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (shape, b) = (concrete(&p.x)?, p.block_size as usize);
        let [n, c, h, w] = strides4(&shape);
        let k = shape[1] / (b * b);
        let sizes = [shape[0], k, shape[2], b, shape[3], b];
        Ok(blocks(p.x.slot, &sizes, &[n, c, h, b * k * c, w, k * c]))
    }
}
