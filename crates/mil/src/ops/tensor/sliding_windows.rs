//! `sliding_windows`

use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Every window of `size` elements along `axis`, one each `stride` elements.
    ///
    /// Dimension `axis` becomes two: the (n - size) / stride + 1 windows, and the elements of a window.
    SlidingWindows since Ios13, Ios17 {
        x: Operand<T>,
        axis: Axis,
        size: i64,
        stride: i64 = 1,
    }
    where T: [Fp16, Fp32, Int32] since Ios17 [Int8, Int16, UInt8, UInt16, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let axis = p.axis.resolve(x.rank())?;
    let (size, stride) = (p.size, p.stride);
    require!(size > 0 && stride > 0, "inputs `size` and `stride` must be positive, not {size} and {stride}");
    let (size, stride) = (size as usize, stride as usize);
    let mut shape = x.shape.clone();
    if let Some(n) = shape[axis].fixed() {
        require!(size <= n, "a window of {size} does not fit a dimension of size {n}");
        shape[axis] = ((n - size) / stride + 1).into();
    }
    shape.insert(axis + 1, size.into());
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
