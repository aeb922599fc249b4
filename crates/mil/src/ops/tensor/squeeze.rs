//! `squeeze`

use crate::op;
use crate::ops::{InferError, Inferred, Known};
use crate::{Dim, TensorType};

op! {
    /// Drops the dimensions `axes` that have size 1; all of size 1 if no axes are given.
    ///
    /// Axes of another size stay.
    Squeeze since Ios13, Ios17 {
        x: Operand<T>,
        axes: Option<Axes>,
    }
    where T: [Fp16, Fp32, Int32, Bool] since Ios17 [Int8, Int16, UInt8, UInt16]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let axes = p.axes.as_ref().map(|a| a.resolve(x.rank())).transpose()?;
    let drop = |i: usize| x.shape[i] == Dim::Fixed(1) && axes.as_ref().is_none_or(|a| a.contains(&i));
    let shape: Vec<Dim> = (0..x.rank()).filter(|&i| !drop(i)).map(|i| x.shape[i]).collect();
    let known = if x.rank() <= 1 { p.x.partial().map(Known::Partial) } else { None };
    Ok(vec![Inferred { ty: TensorType::new(x.dtype, shape).into(), known }])
}
