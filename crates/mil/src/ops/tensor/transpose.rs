//! `transpose`

use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Permutes the dimensions of `x`: dimension i of the result is dimension `perm[i]` of `x`.
    Transpose since Ios13, Ios17 {
        x: Operand<T>,
        perm: Axes,
    }
    where T: [Fp16, Fp32, Int32, Bool] since Ios17 [Int8, Int16, UInt8, UInt16]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let perm = p.perm.resolve(x.rank())?;
    require!(perm.len() == x.rank(), "input `perm` has {} elements, `x` has rank {}", perm.len(), x.rank());
    let shape: Vec<_> = perm.iter().map(|&i| x.shape[i]).collect();
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
