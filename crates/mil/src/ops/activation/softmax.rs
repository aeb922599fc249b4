//! `softmax`

use crate::op;
use crate::ops::elementwise_unary::same_as;
use crate::ops::{InferError, Inferred};

op! {
    /// eˣ divided by the sum of eˣ along the dimension `axis`, computed without overflow.
    ///
    /// The result has the type of `x`.
    Softmax since Ios13 {
        x: Operand<T>,
        axis: Axis = -1,
    }
    where T: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    p.axis.resolve(p.x.rank())?;
    same_as(p.x)
}
