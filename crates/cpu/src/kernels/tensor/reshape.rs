//! `reshape`

use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Reshape;
use milwright_mil::ops::tensor::reshape::reshaped;
use milwright_mil::{Dim, Opset, TensorType};

use super::moves::{alias, ints, produce};
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Reshape {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let x = op.slot("x")?;
        if outputs[0].fixed_shape().is_some() {
            return alias(x, outputs);
        }
        let (shape, aligned) = (op.slot("shape")?, op.version.opset >= Opset::Ios17);
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
