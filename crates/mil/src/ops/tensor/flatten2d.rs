//! `flatten2d`

use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Dim, TensorType};

op! {
    /// Joins the dimensions before `axis`, and those from `axis` on, into two.
    ///
    /// `axis` counts from the end where negative; it may equal the rank.
    Flatten2d since Ios13 {
        x: Operand<T>,
        axis: i64 = 1,
    }
    where T: [Fp16, Fp32, Int32, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let (axis, rank) = (p.axis, x.rank() as i64);
    require!((-rank..=rank).contains(&axis), "input `axis` is {axis}, out of range for rank {rank}");
    let axis = if axis < 0 { axis + rank } else { axis } as usize;
    let volume = |dims: &[Dim]| dims.iter().fold(Dim::Fixed(1), |n, &d| n.zip_with(d, usize::checked_mul));
    let shape = [volume(&x.shape[..axis]), volume(&x.shape[axis..])];
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
