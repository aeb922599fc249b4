//! `resize_bilinear`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ResizeBilinear;
use milwright_mil::ops::image_resizing::sampling::Sampling;

use super::lines::Resize;
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for ResizeBilinear {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let x = op.slot("x")?;
        let resize = Resize::Linear(Sampling::from_name(op.str("sampling_mode")?)?);
        Ok(Prepared::step(move |run| resize.run(2, run.inputs[x], &mut run.outputs[0], run.pool)))
    }
}
