//! `constexpr_sparse_to_dense`

use super::constexpr_lut_to_dense::packed_shape;
use crate::DType::{Fp16, Fp32, Int4, Int8, UInt1, UInt4, UInt8, UInt32};
use crate::op;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};
use crate::{Opset, TensorType};

op! {
    /// Pruned weights: the elements of `nonzero_data` at the ones of a mask, in row-major order, and zeros elsewhere.
    ///
    /// Until iOS17, `mask` has a bit for each element, packed in bytes, least significant bit first, and `shape` is
    /// the shape of the result. From iOS18 on, `mask` has the type uint1 and the shape of the result.
    ConstexprSparseToDense,
    &[
        Version {
            opset: Opset::Ios16,
            params: &[
                required("nonzero_data", Kind::T).constant(),
                required("mask", Kind::Of(&[UInt8])).constant(),
                required("shape", Kind::Of(&[UInt32])).constant(),
            ],
            types: &[("T", &[Int8, UInt8, Fp16, Fp32])],
        },
        Version {
            opset: Opset::Ios18,
            params: &[
                required("nonzero_data", Kind::T).constant(),
                required("mask", Kind::Of(&[UInt1])).constant(),
            ],
            types: &[("T", &[Int4, UInt4, Int8, UInt8, Fp16, Fp32])],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (data, mask) = (op.tensor("nonzero_data")?, op.tensor("mask")?);
    require!(data.rank() == 1, "input `nonzero_data` must be a vector, not {data}");
    if op.version.opset >= Opset::Ios18 {
        return Ok(vec![TensorType::new(data.dtype, mask.shape.clone()).into()]);
    }
    require!(mask.rank() == 1, "input `mask` must be a vector, not {mask}");
    let ty = TensorType::new(data.dtype, packed_shape(op)?);
    let elements = ty.elements().ok_or_else(|| InferError("the shape has too many elements".into()))?;
    let (given, bytes) = (mask.shape[0], elements.div_ceil(8));
    require!(given.agrees(bytes.into()), "input `mask` has {given} bytes; {ty} needs {bytes}");
    Ok(vec![ty.into()])
}
