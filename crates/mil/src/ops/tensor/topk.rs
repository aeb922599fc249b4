//! `topk`

use crate::DType::{Int32, UInt16};
use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Dim, Opset, TensorType};

op! {
    /// The `k` largest elements along `axis`, and their indices; the smallest if `ascending`.
    ///
    /// They come in order (largest first, or smallest first if `ascending`; equal elements by index), also where
    /// `sort` is false and any order would do. From iOS16 on, `return_indices` can leave the indices out. From iOS17
    /// on, a `k` of -1 takes all, and `output_indices_dtype` can be `uint16` instead of `int32`.
    Topk since Ios13, Ios16, Ios17 {
        x: Operand<T>,
        k: i64<[Int32] until Ios17, K> = 1,
        axis: Axis = -1,
        ascending: bool = false,
        sort: bool since Ios16 = true,
        return_indices: bool since Ios16 = true,
        output_indices_dtype: Str since Ios17 = "int32",
    }
    where T: [Fp16, Fp32, Int32] since Ios17 [Int8, Int16, UInt8, UInt16], K: since Ios17 [Int8, Int16, Int32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let axis = p.axis.resolve(x.rank())?;
    let (k, opset) = (p.k, p.opset());
    let mut shape = x.shape.clone();
    if k != -1 || opset < Opset::Ios17 {
        require!(k >= 0, "input `k` is {k}");
        let size = shape[axis];
        require!(
            size.fixed().is_none_or(|n| k as usize <= n),
            "input `k` is {k}, but `axis` has size {size}"
        );
        shape[axis] = Dim::Fixed(k as usize);
    }
    let mut outputs = vec![TensorType::new(x.dtype, shape.clone()).into()];
    if p.return_indices {
        let dtype = match p.output_indices_dtype == "int32" {
            true => Int32,
            false => UInt16,
        };
        if dtype == UInt16 {
            let name = p.output_indices_dtype;
            require!(
                name == "uint16",
                "input `output_indices_dtype` is \"{name}\"; it can be int32 or uint16"
            );
        }
        outputs.push(TensorType::new(dtype, shape).into());
    }
    Ok(outputs)
}
