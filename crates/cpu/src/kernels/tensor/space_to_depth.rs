//! `space_to_depth`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::SpaceToDepth;

use super::moves::{blocks, strides4};
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for SpaceToDepth {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (shape, b) = (op.shape("x")?, op.int("block_size")? as usize);
        let [n, c, h, w] = strides4(&shape);
        let sizes = [shape[0], b, b, shape[1], shape[2] / b, shape[3] / b];
        Ok(blocks(op.slot("x")?, &sizes, &[n, h, w, c, b * h, b * w]))
    }
}
