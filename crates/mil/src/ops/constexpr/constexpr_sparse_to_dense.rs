//! `constexpr_sparse_to_dense`

use super::constexpr_lut_to_dense::packed_shape;
use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Opset, TensorType};

op! {
    /// Pruned weights: the elements of `nonzero_data` at the ones of a mask, in row-major order, and zeros elsewhere.
    ///
    /// Until iOS17, `mask` has a bit for each element, packed in bytes, least significant bit first, and `shape` is
    /// the shape of the result. From iOS18 on, `mask` has the type uint1 and the shape of the result.
    ConstexprSparseToDense since Ios16, Ios18 {
        nonzero_data: Const<T>,
        mask: Const<[UInt8] until Ios18, [UInt1]>,
        shape: Within<Ints<[UInt32]>> until Ios18,
    }
    where T: [Fp16, Fp32, Int8, UInt8] since Ios18 [Int4, UInt4]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (data, mask) = (p.nonzero_data, p.mask);
    require!(data.rank() == 1, "input `nonzero_data` must be a vector, not {data}");
    if p.opset() >= Opset::Ios18 {
        return Ok(vec![TensorType::new(data.dtype, mask.shape.clone()).into()]);
    }
    require!(mask.rank() == 1, "input `mask` must be a vector, not {mask}");
    let ty = TensorType::new(data.dtype, packed_shape(p.shape.as_deref())?);
    let elements = ty.elements().ok_or_else(|| InferError("the shape has too many elements".into()))?;
    let (given, bytes) = (mask.shape[0], elements.div_ceil(8));
    require!(given.agrees(bytes.into()), "input `mask` has {given} bytes; {ty} needs {bytes}");
    Ok(vec![ty.into()])
}
