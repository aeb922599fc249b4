//! `reverse`

use crate::op;
use crate::ops::{Axes, InferError, Inferred};

op! {
    /// Reverses the order of the elements along `axes`; along every dimension if none are given.
    Reverse since Ios13, Ios17 {
        x: Operand<T>,
        axes: Option<Axes>,
    }
    where T: [Fp16, Fp32, Int32, Bool] since Ios17 [Int8, Int16, UInt8, UInt16]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    Axes::or_all(p.axes.as_ref(), x.rank())?;
    Ok(vec![x.into()])
}
