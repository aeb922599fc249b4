//! `split`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Split;

use super::moves::around;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Split {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, shape) = (p.x.slot, concrete(&p.x)?);
        let axis = p.axis.resolve(shape.len())?;
        let element = p.x.dtype.bits() / 8;
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
