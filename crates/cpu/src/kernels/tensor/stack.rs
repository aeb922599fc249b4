//! `stack`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Stack;

use super::moves::around;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Stack {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = concrete(&outputs[0])?;
        let (outer, _, inner) = around(&shape, p.axis.resolve(shape.len())?);
        let (slots, part) =
            (p.values.iter().map(|v| v.slot).collect::<Vec<_>>(), inner * outputs[0].dtype.bits() / 8);
        Ok(Prepared::step(move |run| {
            let mut out = run.outputs[0].bytes();
            for i in 0..outer {
                for &slot in &slots {
                    let (to, rest) = out.split_at_mut(part);
                    to.copy_from_slice(&run.inputs[slot].bytes()[i * part..][..part]);
                    out = rest;
                }
            }
            Ok(())
        }))
    }
}
