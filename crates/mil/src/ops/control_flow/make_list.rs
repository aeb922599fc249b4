//! `make_list`

use crate::DType::{Bool, Fp16, Fp32, Int32};
use crate::op;
use crate::ops::{InferError, Inferred, Operand, dim};
use crate::{DType, Dim, TensorType, Type};

op! {
    /// A list of tensors of one element type and shape, which are zeros.
    ///
    /// * `init_length`: how many elements the list has at first.
    /// * `dynamic_length`: whether it may grow; if not, `init_length` is its length.
    /// * `elem_shape`: the sizes of an element's dimensions, one scalar each; a string stands for a size that
    ///   is known only when the function runs.
    /// * `dtype`: `bool`, `fp16`, `fp32` or `int32`.
    MakeList since Ios13 {
        init_length: Option<Operand<[Int32]>> = 1,
        dynamic_length: bool = true,
        elem_shape: ManyConst<[Int32, String]>,
        dtype: Str = "fp32",
    }
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let name = p.dtype;
    let dtype = name.parse::<DType>().ok().filter(|d| [Bool, Fp16, Fp32, Int32].contains(d));
    let dtype = dtype.ok_or_else(|| InferError(format!("`dtype` is \"{name}\", which no list can hold")))?;
    let size = |a: &Operand<'_>| match a.partial() {
        // A string stands for a size that is not known yet.
        None => Dim::Unknown,
        Some(n) => dim(n.first().copied().flatten()),
    };
    let element = TensorType::new(dtype, p.elem_shape.iter().map(size).collect::<Vec<_>>());
    let length = match p.dynamic_length {
        true => Dim::Unknown,
        false => match p.init_length.map_or_else(|| Ok(vec![1]), |n| n.ints()).as_deref() {
            Ok(&[n]) => dim(Some(n)),
            _ => Dim::Unknown,
        },
    };
    Ok(vec![Type::List(Box::new(element.into()), length).into()])
}
