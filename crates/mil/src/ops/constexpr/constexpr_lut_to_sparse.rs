//! `constexpr_lut_to_sparse`

use super::constexpr_lut_to_dense::expanded;
use crate::DType::{Fp16, Fp32, Int8, UInt1, UInt2, UInt3, UInt4, UInt6, UInt8};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Dim, Opset, TensorType};

op! {
    /// Palettized weights of which only those in a mask are stored; the results are a mask and values.
    ///
    /// `indices_nonzero_data` has an index for each 1 of `indices_mask`, in row-major order; they are looked up as in
    /// `constexpr_lut_to_dense`, at their place in the mask. The first result is the mask, widened along
    /// `vector_axis` as the entries are; the second has the value for each 1 of it.
    ConstexprLutToSparse,
    &[Version {
        opset: Opset::Ios18,
        params: &[
            required("indices_mask", Kind::Of(&[UInt1])).constant(),
            required("indices_nonzero_data", Kind::Var("IndicesT")).constant(),
            required("lut", Kind::T).constant(),
            optional("vector_axis", Kind::INT32, Default::Absent).constant(),
        ],
        types: &[
            ("IndicesT", &[UInt1, UInt2, UInt3, UInt4, UInt6, UInt8]),
            ("T", &[Int8, UInt8, Fp16, Fp32]),
        ],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let mask = op.tensor("indices_mask")?;
    let (data, lut) = (op.tensor("indices_nonzero_data")?, op.tensor("lut")?);
    require!(data.rank() == 1, "input `indices_nonzero_data` must be a vector, not {data}");
    let shape = expanded(op, data.dtype.bits(), &mask.shape, lut)?;
    let vector = *lut.shape.last().unwrap_or(&Dim::Unknown);
    let count = data.shape[0].zip_with(vector, usize::checked_mul);
    Ok(vec![TensorType::new(UInt1, shape).into(), TensorType::new(lut.dtype, [count]).into()])
}
