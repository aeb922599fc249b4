//! `constexpr_cast`

use half::f16;
use milwright_mil::TensorType;
use milwright_mil::ops::defs::ConstexprCast;

use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for ConstexprCast {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let source = p.source_val.slot;
        Ok(Prepared::step(move |run| {
            let from = run.inputs[source].slice::<f16>();
            run.outputs[0].slice::<f32>().iter_mut().zip(from).for_each(|(o, x)| *o = x.to_f32());
            Ok(())
        }))
    }
}
