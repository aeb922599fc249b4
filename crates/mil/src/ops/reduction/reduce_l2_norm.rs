//! `reduce_l2_norm`

use crate::op;
use crate::ops::reduction::reduce;

op! {
    /// The square root of the sum of squares. An integer result loses its fraction.
    ///
    /// `axes` (default: all; may be negative, from the end) are the dimensions to reduce; with `keep_dims`
    /// they stay with size 1. The result has the element type of `x`.
    ReduceL2Norm since Ios13 {
        x: Operand<T>,
        axes: Option<Axes>,
        keep_dims: bool = false,
    }
    where T: [Fp16, Fp32, Int32]
    => |p| reduce(p.x, p.axes.as_ref(), p.keep_dims)
}
