//! `shape`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Shape;

use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Shape {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let x = op.slot("x")?;
        Ok(Prepared::step(move |run| {
            for (o, &n) in run.outputs[0].slice::<i32>().iter_mut().zip(run.inputs[x].shape()) {
                *o = i32::try_from(n).map_err(|_| KernelError::invalid("a dimension does not fit int32"))?;
            }
            Ok(())
        }))
    }
}
