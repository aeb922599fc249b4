//! `linear`

use milwright_mil::TensorType;
use milwright_mil::ops::OpView;
use milwright_mil::ops::defs::Linear;

use super::Batched;
use crate::index::count;
use crate::kernel::OpViewExt;
use crate::{Kernel, KernelError, Prepared};

impl Kernel for Linear {
    fn prepare(op: &OpView<'_>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, weight) = (op.shape("x")?, op.shape("weight")?);
        let (n, k) = (weight[0], weight[1]);
        let rows = count(&x[..x.len() - 1]);
        let product = Batched::new([rows, k, n], &[], [&[], &[]], [[k, 1], [1, k]]);
        product.prepare([op.slot("x")?, op.slot("weight")?], op.opt_slot("bias"), outputs[0].dtype)
    }
}
