//! `reduce_prod`

use crate::op;
use crate::ops::reduction::reduce;

op! {
    /// The product. Integers wrap.
    ///
    /// `axes` (default: all; may be negative, from the end) are the dimensions to reduce; with `keep_dims`
    /// they stay with size 1. The result has the element type of `x`.
    ReduceProd since Ios13 {
        x: Operand<T>,
        axes: Option<Axes>,
        keep_dims: bool = false,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| reduce(p.x, p.axes.as_ref(), p.keep_dims)
}
