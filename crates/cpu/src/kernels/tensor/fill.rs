//! `fill`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Fill;

use super::moves::{element, fill, ints, produce};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Fill {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = p.shape.slot;
        let value = element(p.value, outputs[0].dtype, 0)?;
        produce(
            outputs,
            move |inputs| {
                let sizes = ints(inputs, shape)?.into_iter().map(usize::try_from);
                sizes
                    .collect::<Result<_, _>>()
                    .map_err(|_| KernelError::invalid("`shape` has negative elements"))
            },
            move |_, out, _| {
                fill(out, &value);
                Ok(())
            },
        )
    }
}
