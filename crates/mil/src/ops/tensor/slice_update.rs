//! `slice_update`

use super::slice_by_index::{bounds, sliced_shape};
use crate::Dim;
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// `x` with the elements that a slice takes replaced by those of `update`.
    ///
    /// The slice is given as for `slice_by_index`; `update` has the shape that it takes.
    SliceUpdate since Ios18 {
        x: Operand<T>,
        update: Operand<T>,
        begin: Operand<U>,
        end: Operand<U>,
        stride: Option<Ints<U>>,
        begin_mask: Option<Bools>,
        end_mask: Option<Bools>,
        squeeze_mask: Option<Bools>,
    }
    where T: [Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16, Bool], U: [Int8, Int16, Int32]
    => infer
}

bounds!();

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, update) = (p.x, p.update);
    let shape = sliced_shape(&p.bounds().slices(x.rank())?, &x.shape)?;
    let fits =
        update.rank() == shape.len() && update.shape.iter().zip(&shape).all(|(a, b): (&Dim, _)| a.agrees(*b));
    require!(update.rank() > 0, "input `update` must not be a scalar");
    require!(
        fits,
        "input `update` is {update}, but the slice takes {}",
        crate::TensorType::new(x.dtype, shape)
    );
    Ok(vec![x.into()])
}
