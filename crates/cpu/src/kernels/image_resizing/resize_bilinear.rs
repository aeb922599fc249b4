//! `resize_bilinear`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ResizeBilinear;
use milwright_mil::ops::image_resizing::sampling::Sampling;

use super::lines::Resize;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for ResizeBilinear {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let x = p.x.slot;
        let resize = Resize::Linear(Sampling::from_name(p.sampling_mode)?);
        Ok(Prepared::step(move |run| resize.run(2, run.inputs[x], &mut run.outputs[0], run.pool)))
    }
}
