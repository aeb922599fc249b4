//! `select`

use crate::TensorType;
use crate::op;
use crate::ops::elementwise_binary::broadcast_shapes;
use crate::ops::{InferError, Inferred};

op! {
    /// `a` where `cond` is true, `b` elsewhere.
    ///
    /// The shapes of all three are broadcast as in NumPy; `cond` may be a scalar. The result has the element
    /// type of `a` and `b`.
    Select since Ios13 {
        cond: Operand<[Bool]>,
        a: Operand<T>,
        b: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (cond, a, b) = (p.cond, p.a, p.b);
    let shape = broadcast_shapes(&broadcast_shapes(&a.shape, &b.shape)?, &cond.shape)?;
    Ok(vec![TensorType::new(a.dtype, shape).into()])
}
