//! `non_zero`

use crate::DType::Int32;
use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Dim, TensorType};

op! {
    /// The indices of the elements of `x` that are not zero: int32, a row for each, in row-major order.
    NonZero since Ios13 {
        x: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let rank = p.x.rank();
    Ok(vec![TensorType::new(Int32, [Dim::Unknown, Dim::Fixed(rank)]).into()])
}
