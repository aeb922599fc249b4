//! `argsort`

use crate::DType::Int32;
use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// The indices that sort `x` along `axis`: int32, of the shape of `x`.
    ///
    /// The order is descending unless `ascending`. Equal elements keep their order.
    Argsort since Ios13 {
        x: Operand<T>,
        axis: Axis = -1,
        ascending: bool = false,
    }
    where T: [Fp16, Fp32, Int32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    p.axis.resolve(x.rank())?;
    Ok(vec![TensorType::new(Int32, x.shape.clone()).into()])
}
