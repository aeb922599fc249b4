//! `gather_along_axis`

use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Takes single elements of `x` along `axis` by index.
    ///
    /// `indices` has the shape of the result, and that of `x` except along `axis`: the element at a place is the one
    /// of `x` at the same place, but at the index found there along `axis`. Indices are as for `gather`.
    GatherAlongAxis since Ios13, Ios16, Ios17 {
        x: Operand<T>,
        indices: Operand<[Int32] until Ios16, I>,
        axis: Axis = 0,
        validate_indices: bool since Ios17 = false,
    }
    where
        T: [Fp16, Fp32, Int32] since Ios17 [Int8, Int16, UInt8, UInt16],
        I: since Ios16 [Int16, Int32, UInt16] since Ios17 [Int8, UInt8]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, indices) = (p.x, p.indices);
    let axis = p.axis.resolve(x.rank())?;
    same_but_axis("x", &x, &indices, axis)?;
    Ok(vec![TensorType::new(x.dtype, indices.shape.clone()).into()])
}

/// Checks that `indices` has the same shape as a tensor, except along `axis`.
pub(super) fn same_but_axis(
    name: &str,
    tensor: &TensorType,
    indices: &TensorType,
    axis: usize,
) -> Result<(), InferError> {
    let (a, b) = (tensor.rank(), indices.rank());
    require!(a == b, "`{name}` has rank {a}, `indices` has {b}");
    for (d, (&a, &b)) in tensor.shape.iter().zip(&indices.shape).enumerate() {
        require!(d == axis || a.agrees(b), "`{name}` is {a} in dimension {d}, `indices` is {b}");
    }
    Ok(())
}
