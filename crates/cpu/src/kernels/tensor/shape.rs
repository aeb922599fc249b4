//! `shape`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Shape;

use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Shape {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let x = p.x.slot;
        Ok(Prepared::step(move |run| {
            for (o, &n) in run.outputs[0].slice::<i32>().iter_mut().zip(run.inputs[x].shape()) {
                *o = i32::try_from(n).map_err(|_| KernelError::invalid("a dimension does not fit int32"))?;
            }
            Ok(())
        }))
    }
}
