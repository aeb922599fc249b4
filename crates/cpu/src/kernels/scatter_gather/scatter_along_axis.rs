//! `scatter_along_axis`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ScatterAlongAxis;
use milwright_mil::ops::scatter_gather::scatter::mode;

use super::indices::Indices;
use super::scatter::scatter;
use crate::kernel::concrete;
use crate::kernels::tensor::moves::around;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for ScatterAlongAxis {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = concrete(&p.data)?;
        let axis = p.axis.resolve(shape.len())?;
        let (_, n, inner) = around(&shape, axis);
        let (given, indices) = (concrete(&p.indices)?[axis], Indices::of(p.indices, p.validate_indices));
        scatter([p.data, p.updates], mode(p.mode)?, move |run| {
            let place = |(i, at): (usize, usize)| Some((i / (given * inner) * n + at) * inner + i % inner);
            Ok((indices.of_size(run.inputs, n)?.into_iter().enumerate().map(place).collect(), 1))
        })
    }
}
