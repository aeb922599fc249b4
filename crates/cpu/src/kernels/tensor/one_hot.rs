//! `one_hot`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::OneHot;

use super::moves::{around, element, fill, ints, produce};
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for OneHot {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (indices, size) = (op.slot("indices")?, op.slot("one_hot_vector_size")?);
        let axis = op.axis("axis", outputs[0].rank())?;
        let on = element(op, "on_value", outputs[0].dtype, 1)?;
        let off = element(op, "off_value", outputs[0].dtype, 0)?;
        produce(
            outputs,
            move |inputs| {
                let n = ints(inputs, size)?.first().and_then(|&n| usize::try_from(n).ok());
                let n = n.ok_or_else(|| KernelError::invalid("`one_hot_vector_size` is negative"))?;
                let mut shape = inputs[indices].shape().to_vec();
                shape.insert(axis, n);
                Ok(shape)
            },
            move |inputs, out, _| {
                let (_, n, inner) = around(out.shape(), axis);
                fill(out, &off);
                for (i, at) in ints(inputs, indices)?.into_iter().enumerate() {
                    if let Some(at) = usize::try_from(at).ok().filter(|&at| at < n) {
                        let place = (i / inner * n + at) * inner + i % inner;
                        out.bytes()[place * on.len()..][..on.len()].copy_from_slice(&on);
                    }
                }
                Ok(())
            },
        )
    }
}
