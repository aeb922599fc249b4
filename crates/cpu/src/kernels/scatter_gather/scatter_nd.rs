//! `scatter_nd`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::ScatterNd;
use milwright_mil::ops::scatter_gather::scatter::mode;

use super::indices::Indices;
use super::scatter::scatter;
use crate::index::count;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for ScatterNd {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = concrete(&p.data)?;
        let depth = concrete(&p.indices)?.last().copied().unwrap_or(0);
        let (dims, part) = (shape[..depth].to_vec(), count(&shape[depth..]));
        let indices = Indices::of(p.indices, p.validate_indices);
        scatter([p.data, p.updates], mode(p.mode)?, move |run| {
            let at = indices.offsets(run.inputs, &dims)?;
            Ok((at.into_iter().map(|i| Some(i * part)).collect(), part))
        })
    }
}
