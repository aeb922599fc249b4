//! `constexpr_cast`

use half::f16;
use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ConstexprCast;

use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for ConstexprCast {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let source = op.slot("source_val")?;
        Ok(Prepared::step(move |run| {
            let from = run.inputs[source].slice::<f16>();
            run.outputs[0].slice::<f32>().iter_mut().zip(from).for_each(|(o, x)| *o = x.to_f32());
            Ok(())
        }))
    }
}
