//! `reshape`

use milwright_mil::ops::defs::Reshape;
use milwright_mil::ops::tensor::reshape::reshaped;
use milwright_mil::{Dim, Opset, TensorType};

use super::moves::{alias, ints, produce};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Reshape {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let x = p.x.slot;
        if outputs[0].fixed_shape().is_some() {
            return alias(x, outputs);
        }
        let (shape, aligned) = (p.shape.slot, p.opset() >= Opset::Ios17);
        produce(
            outputs,
            move |inputs| {
                let wanted: Vec<_> = ints(inputs, shape)?.into_iter().map(Some).collect();
                let from: Vec<_> = inputs[x].shape().iter().map(|&n| Dim::Fixed(n)).collect();
                let dims = reshaped(&from, &wanted, aligned)?;
                let fixed = dims.into_iter().map(Dim::fixed).collect::<Option<Vec<usize>>>();
                fixed.ok_or_else(|| KernelError::invalid("a dimension of an empty tensor cannot be -1"))
            },
            move |inputs, out, _| {
                out.bytes().copy_from_slice(inputs[x].bytes());
                Ok(())
            },
        )
    }
}
