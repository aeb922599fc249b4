//! `expand_dims`

use crate::op;
use crate::ops::{InferError, Inferred, Known};
use crate::{Dim, TensorType};

op! {
    /// Inserts dimensions of size 1.
    ///
    /// `axes` are the places of the new dimensions in the result, from the end where negative.
    ExpandDims since Ios13, Ios17 {
        x: Operand<T>,
        axes: Axes,
    }
    where T: [Fp16, Fp32, Int32, Bool] since Ios17 [Int8, Int16, UInt8, UInt16]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let rank = x.rank() + p.axes.values.len();
    let mut axes = p.axes.resolve(rank)?;
    axes.sort_unstable();
    let mut shape = x.shape.clone();
    for axis in axes {
        shape.insert(axis, Dim::Fixed(1));
    }
    let known = if rank <= 1 { p.x.partial().map(Known::Partial) } else { None };
    Ok(vec![Inferred { ty: TensorType::new(x.dtype, shape).into(), known }])
}
