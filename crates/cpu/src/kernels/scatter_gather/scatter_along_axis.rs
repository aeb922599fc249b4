//! `scatter_along_axis`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ScatterAlongAxis;

use super::indices::Indices;
use super::scatter::scatter;
use crate::kernel::OpViewExt;
use crate::kernels::tensor::moves::around;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for ScatterAlongAxis {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = op.shape("data")?;
        let axis = op.axis("axis", shape.len())?;
        let (_, n, inner) = around(&shape, axis);
        let (given, indices) = (op.shape("indices")?[axis], Indices::of(op)?);
        scatter(op, move |run| {
            let place = |(i, at): (usize, usize)| Some((i / (given * inner) * n + at) * inner + i % inner);
            Ok((indices.of_size(run.inputs, n)?.into_iter().enumerate().map(place).collect(), 1))
        })
    }
}
