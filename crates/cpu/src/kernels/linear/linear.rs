//! `linear`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Linear;

use super::Batched;
use crate::index::count;
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Packed, Params, Prepared};

impl Kernel for Linear {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let from = [p.x.dtype, p.weight.dtype];
        product(p)?.prepare(slots(p), p.bias.map(|t| t.slot), from, outputs[0].dtype)
    }

    fn pack(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Option<Packed>, KernelError> {
        product(p)?.pack(p.x.dtype, p.weight, outputs[0].dtype)
    }

    fn prepare_packed(
        p: &Params<'_, Self>,
        outputs: &[TensorType],
        packed: Packed,
    ) -> Result<Prepared, KernelError> {
        product(p)?.prepare_packed(slots(p), p.bias.map(|t| t.slot), [p.x.dtype, outputs[0].dtype], packed)
    }
}

pub(super) fn product(p: &Params<'_, Linear>) -> Result<Batched, KernelError> {
    let (x, weight) = (concrete(&p.x)?, concrete(&p.weight)?);
    let (n, k) = (weight[0], weight[1]);
    let rows = count(&x[..x.len() - 1]);
    Ok(Batched::new([rows, k, n], &[], [&[], &[]], [[k, 1], [1, k]]))
}

fn slots(p: &Params<'_, Linear>) -> [usize; 2] {
    [p.x.slot, p.weight.slot]
}
