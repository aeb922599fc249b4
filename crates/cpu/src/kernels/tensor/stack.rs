//! `stack`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Stack;

use super::moves::around;
use crate::kernel::{OpViewExt, concrete};
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Stack {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = concrete(&outputs[0])?;
        let (outer, _, inner) = around(&shape, op.axis("axis", shape.len())?);
        let (slots, part) = (op.slots("values"), inner * outputs[0].dtype.bits() / 8);
        Ok(Prepared::step(move |run| {
            let mut out = run.outputs[0].bytes();
            for i in 0..outer {
                for slot in slots.clone() {
                    let (to, rest) = out.split_at_mut(part);
                    to.copy_from_slice(&run.inputs[slot].bytes()[i * part..][..part]);
                    out = rest;
                }
            }
            Ok(())
        }))
    }
}
