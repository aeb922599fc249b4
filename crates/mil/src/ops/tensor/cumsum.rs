//! `cumsum`

use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Running sums of `x` along `axis`, in the type and shape of `x`.
    ///
    /// `exclusive` leaves an element out of its own sum, so that the first sum is 0. `reverse` sums from the end.
    Cumsum since Ios13 {
        x: Operand<T>,
        axis: Axis = 0,
        exclusive: bool = false,
        reverse: bool = false,
    }
    where T: [Fp16, Fp32, Int32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    p.axis.resolve(x.rank())?;
    Ok(vec![x.into()])
}
