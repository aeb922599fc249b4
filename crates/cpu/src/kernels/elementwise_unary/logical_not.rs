//! `logical_not`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::LogicalNot;

use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for LogicalNot {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let slot = p.x.slot;
        Ok(Prepared::step(move |run| {
            let x = run.inputs[slot].slice::<u8>();
            run.outputs[0].slice::<u8>().iter_mut().zip(x).for_each(|(o, &x)| *o = u8::from(x == 0));
            Ok(())
        }))
    }
}
