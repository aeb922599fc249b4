//! `constexpr_lut_to_sparse`

use super::constexpr_lut_to_dense::expanded;
use crate::DType::UInt1;
use crate::op;
use crate::ops::{InferError, Inferred};
use crate::{Dim, TensorType};

op! {
    /// Palettized weights of which only those in a mask are stored; the results are a mask and values.
    ///
    /// `indices_nonzero_data` has an index for each 1 of `indices_mask`, in row-major order; they are looked up as in
    /// `constexpr_lut_to_dense`, at their place in the mask. The first result is the mask, widened along
    /// `vector_axis` as the entries are; the second has the value for each 1 of it.
    ConstexprLutToSparse since Ios18 {
        indices_mask: Const<[UInt1]>,
        indices_nonzero_data: Const<IndicesT>,
        lut: Const<T>,
        vector_axis: Option<Axis>,
    }
    where IndicesT: [UInt1, UInt2, UInt3, UInt4, UInt6, UInt8], T: [Fp16, Fp32, Int8, UInt8]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let mask = p.indices_mask;
    let (data, lut) = (p.indices_nonzero_data, p.lut);
    require!(data.rank() == 1, "input `indices_nonzero_data` must be a vector, not {data}");
    let shape = expanded(p.vector_axis, data.dtype.bits(), &mask.shape, &lut)?;
    let vector = *lut.shape.last().unwrap_or(&Dim::Unknown);
    let count = data.shape[0].zip_with(vector, usize::checked_mul);
    Ok(vec![TensorType::new(UInt1, shape).into(), TensorType::new(lut.dtype, [count]).into()])
}
