//! `depth_to_space`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::DepthToSpace;

use super::moves::{blocks, strides4};
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for DepthToSpace {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (shape, b) = (op.shape("x")?, op.int("block_size")? as usize);
        let [n, c, h, w] = strides4(&shape);
        let k = shape[1] / (b * b);
        let sizes = [shape[0], k, shape[2], b, shape[3], b];
        Ok(blocks(op.slot("x")?, &sizes, &[n, c, h, b * k * c, w, k * c]))
    }
}
