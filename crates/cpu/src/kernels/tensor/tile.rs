//! `tile`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Tile;

use super::moves::{copy, ints, produce, walk};
use crate::index::strides;
use crate::{Kernel, KernelError, Params, Prepared, View};

impl Kernel for Tile {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, reps) = (p.x.slot, p.reps.slot);
        let shape = move |inputs: &[View<'_>]| {
            let (reps, shape) = (ints(inputs, reps)?, inputs[x].shape());
            if reps.len() != shape.len() || reps.iter().any(|&n| n < 0) {
                return Err(KernelError::invalid(format!(
                    "`reps` is {reps:?} for a tensor of shape {shape:?}"
                )));
            }
            let grown = shape.iter().zip(&reps).map(|(&n, &r)| n.checked_mul(r as usize));
            grown.collect::<Option<Vec<_>>>().ok_or_else(|| KernelError::invalid("`reps` is too large"))
        };
        produce(outputs, shape, move |inputs, out, pool| {
            let from = inputs[x].shape();
            if shape(inputs)? != out.shape() {
                return Err(KernelError::invalid("`reps` makes another shape than the program declares"));
            }
            // Each dimension of the output is repetitions of a dimension of the input.
            let (mut sizes, mut steps) = (Vec::new(), Vec::new());
            for ((&n, &m), &s) in from.iter().zip(out.shape()).zip(&strides(from)) {
                sizes.extend([m / n.max(1), n]);
                steps.extend([0, s]);
            }
            copy(&walk(&sizes, &steps, 0), inputs[x], out, pool)
        })
    }
}
