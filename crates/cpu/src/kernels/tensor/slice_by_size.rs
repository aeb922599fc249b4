//! `slice_by_size`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::SliceBySize;
use milwright_mil::ops::tensor::slice_by_size::taken;

use super::moves::{copy, ints, produce, walk};
use crate::index::strides;
use crate::{Kernel, KernelError, Params, Prepared, View};

impl Kernel for SliceBySize {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, begin, size) = (p.x.slot, p.begin.slot, p.size.slot);
        // The first index and the size, for each dimension.
        let ranges = move |inputs: &[View<'_>]| {
            let (begin, size) = (ints(inputs, begin)?, ints(inputs, size)?);
            let shape = inputs[x].shape();
            if begin.len() != shape.len() || size.len() != shape.len() {
                return Err(KernelError::invalid("`begin` and `size` need an element for each dimension"));
            }
            let range = |d: usize| Ok(taken(shape[d], begin[d], size[d])?);
            (0..shape.len()).map(range).collect::<Result<Vec<(usize, usize)>, KernelError>>()
        };
        produce(
            outputs,
            move |inputs| Ok(ranges(inputs)?.iter().map(|r| r.1).collect()),
            move |inputs, out, pool| {
                let own = strides(inputs[x].shape());
                let ranges = ranges(inputs)?;
                let offset = ranges.iter().zip(&own).map(|(r, s)| r.0 * s).sum();
                if ranges.iter().map(|r| &r.1).ne(out.shape()) {
                    return Err(KernelError::invalid(
                        "the slice has another shape than the program declares",
                    ));
                }
                copy(&walk(out.shape(), &own, offset), inputs[x], out, pool)
            },
        )
    }
}
