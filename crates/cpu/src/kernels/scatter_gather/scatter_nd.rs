//! `scatter_nd`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::ScatterNd;

use super::indices::Indices;
use super::scatter::scatter;
use crate::index::count;
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for ScatterNd {
    fn prepare(op: &OpView<'_>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = op.shape("data")?;
        let depth = op.shape("indices")?.last().copied().unwrap_or(0);
        let (dims, part) = (shape[..depth].to_vec(), count(&shape[depth..]));
        let indices = Indices::of(op)?;
        scatter(op, move |run| {
            let at = indices.offsets(run.inputs, &dims)?;
            Ok((at.into_iter().map(|i| Some(i * part)).collect(), part))
        })
    }
}
