//! `slice_update`

use super::slice_by_index::{sliced_shape, slices};
use crate::DType::{Bool, Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Dim, Opset};

op! {
    /// `x` with the elements that a slice takes replaced by those of `update`.
    ///
    /// The slice is given as for `slice_by_index`; `update` has the shape that it takes.
    SliceUpdate,
    &[Version {
        opset: Opset::Ios18,
        params: &[
            required("x", Kind::T),
            required("update", Kind::T),
            required("begin", Kind::Var("U")),
            required("end", Kind::Var("U")),
            optional("stride", Kind::Var("U"), Default::Absent).constant(),
            optional("begin_mask", Kind::BOOL, Default::Absent).constant(),
            optional("end_mask", Kind::BOOL, Default::Absent).constant(),
            optional("squeeze_mask", Kind::BOOL, Default::Absent).constant(),
        ],
        types: &[
            ("T", &[Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16, Bool]),
            ("U", &[Int8, Int16, Int32]),
        ],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, update) = (op.tensor("x")?, op.tensor("update")?);
    let shape = sliced_shape(&slices(op, x.rank())?, &x.shape)?;
    let fits =
        update.rank() == shape.len() && update.shape.iter().zip(&shape).all(|(a, b): (&Dim, _)| a.agrees(*b));
    require!(update.rank() > 0, "input `update` must not be a scalar");
    require!(
        fits,
        "input `update` is {update}, but the slice takes {}",
        crate::TensorType::new(x.dtype, shape)
    );
    Ok(vec![x.clone().into()])
}
