//! `split`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Split;

use super::moves::around;
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Split {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, shape) = (op.slot("x")?, op.shape("x")?);
        let axis = op.axis("axis", shape.len())?;
        let element = op.dtype("x")?.bits() / 8;
        Ok(Prepared::step(move |run| {
            let (outer, n, inner) = around(&shape, axis);
            let (from, whole) = (run.inputs[x].bytes(), n * inner * element);
            let mut first = 0;
            for out in &mut run.outputs {
                let part = out.shape()[axis] * inner * element;
                let to = out.bytes();
                for i in 0..outer {
                    to[i * part..(i + 1) * part].copy_from_slice(&from[i * whole + first..][..part]);
                }
                first += part;
            }
            Ok(())
        }))
    }
}
