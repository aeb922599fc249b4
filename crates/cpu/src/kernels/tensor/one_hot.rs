//! `one_hot`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::OneHot;

use super::moves::{around, element, fill, ints, produce};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for OneHot {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (indices, size) = (p.indices.slot, p.one_hot_vector_size.slot);
        let axis = p.axis.resolve(outputs[0].rank())?;
        let on = element(p.on_value, outputs[0].dtype, 1)?;
        let off = element(p.off_value, outputs[0].dtype, 0)?;
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
