//! `one_hot`

use crate::DType::Int32;
use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred, dim};

op! {
    /// Makes a vector of each index: `on_value` at the index, `off_value` elsewhere.
    ///
    /// The vectors have `one_hot_vector_size` elements and lie along a new dimension `axis`. An index out of range
    /// makes a vector without `on_value`. The result has the type of `on_value` and `off_value`: int32 if neither is
    /// given.
    OneHot since Ios13 {
        indices: Operand<[Int32]>,
        one_hot_vector_size: Operand<[Int32]>,
        axis: Axis = -1,
        on_value: Option<IntConst<T>> = 1,
        off_value: Option<IntConst<T>> = 0,
    }
    where T: [Fp16, Fp32, Int32, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let indices = p.indices;
    let dtype = p.on_value.or(p.off_value).map_or(Int32, |v| v.dtype);
    let size = match p.one_hot_vector_size.partial().as_deref() {
        Some(&[size]) => size,
        _ => return Err(InferError("input `one_hot_vector_size` must be one integer".into())),
    };
    require!(size.is_none_or(|n| n >= 0), "input `one_hot_vector_size` is negative");
    let mut shape = indices.shape.clone();
    shape.insert(p.axis.resolve(indices.rank() + 1)?, dim(size));
    Ok(vec![TensorType::new(dtype, shape).into()])
}
