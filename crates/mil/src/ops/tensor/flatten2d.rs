//! `flatten2d`

use crate::DType::{Bool, Fp16, Fp32, Int32};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Dim, Opset, TensorType};

op! {
    /// Joins the dimensions before `axis`, and those from `axis` on, into two.
    ///
    /// `axis` counts from the end where negative; it may equal the rank.
    Flatten2d,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("x", Kind::T),
            optional("axis", Kind::INT32, Default::Int(1)).constant(),
        ],
        types: &[("T", &[Fp16, Fp32, Int32, Bool])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    let (axis, rank) = (op.int("axis")?, x.rank() as i64);
    require!((-rank..=rank).contains(&axis), "input `axis` is {axis}, out of range for rank {rank}");
    let axis = if axis < 0 { axis + rank } else { axis } as usize;
    let volume = |dims: &[Dim]| dims.iter().fold(Dim::Fixed(1), |n, &d| n.zip_with(d, usize::checked_mul));
    let shape = [volume(&x.shape[..axis]), volume(&x.shape[axis..])];
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
