//! `resize`

use super::sampling::Sampling;
use crate::op;
use crate::ops::{InferError, Inferred, dim};
use crate::{Dim, TensorType};

op! {
    /// Resizes the last `resized_dims` dimensions of `x` to the last `resized_dims` elements of `shape`.
    ///
    /// A 0 in `shape` keeps that dimension. `interpolation_mode` is `LINEAR` or `NEAREST_NEIGHBOR` (the element
    /// nearest to the position, halfway the later one; `DEFAULT` samples at half-pixel centres then); `sampling_mode` is
    /// as for `resize_bilinear`.
    Resize since Ios17 {
        x: Operand<T>,
        shape: Operand<U>,
        resized_dims: i64<[UInt32]>,
        interpolation_mode: Str = "LINEAR",
        sampling_mode: Str = "DEFAULT",
    }
    where T: [Fp16, Fp32, Int32], U: [Int16, Int32, UInt16, UInt32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, sizes) = (p.x, p.shape);
    Sampling::from_name(p.sampling_mode)?;
    let mode = p.interpolation_mode;
    require!(
        matches!(mode, "LINEAR" | "NEAREST_NEIGHBOR"),
        "input `interpolation_mode` is \"{mode}\"; it can be LINEAR or NEAREST_NEIGHBOR"
    );
    let count = p.resized_dims;
    require!(sizes.rank() == 1, "input `shape` must be a vector, not {sizes}");
    let length = sizes.shape[0].fixed().unwrap_or(x.rank());
    require!(
        count >= 0 && count as usize <= length && length <= x.rank(),
        "cannot resize {count} dimensions by {length} sizes for `x` of rank {}",
        x.rank()
    );
    let count = count as usize;
    let known = p.shape.partial().unwrap_or_else(|| vec![None; length]);
    let mut shape = x.shape.clone();
    let first = x.rank() - count;
    for (d, &size) in shape[first..].iter_mut().zip(&known[length - count..]) {
        match size {
            Some(0) => {}
            Some(n) => {
                require!(n > 0, "input `shape` has the negative element {n}");
                *d = Dim::Fixed(n as usize);
            }
            None => *d = dim(None),
        }
    }
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
