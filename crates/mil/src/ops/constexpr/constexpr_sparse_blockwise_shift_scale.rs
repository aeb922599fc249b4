//! `constexpr_sparse_blockwise_shift_scale`

use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Quantized weights of which only those in a mask are stored; the results are a mask and values.
    ///
    /// `nonzero_data` has an element for each 1 of `data_mask`, in row-major order; they are scaled and shifted as in
    /// `constexpr_blockwise_shift_scale`, at their place in the mask. The first result is the mask.
    ConstexprSparseBlockwiseShiftScale since Ios18 {
        data_mask: Const<[UInt1]>,
        nonzero_data: Const<SrcT>,
        scale: Const<DstT>,
        offset: Option<Const<OffsetT>>,
    }
    where
        SrcT: [Fp16, Fp32, Int4, Int8, UInt4, UInt8],
        DstT: [Fp16, Fp32],
        OffsetT: [Fp16, Fp32, Int4, Int8, UInt4, UInt8]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (mask, data) = (p.data_mask, p.nonzero_data);
    require!(data.rank() == 1, "input `nonzero_data` must be a vector, not {data}");
    let dense = TensorType::new(data.dtype, mask.shape.clone());
    super::constexpr_blockwise_shift_scale::check_blocks(&dense, p.scale, p.offset)?;
    let values = TensorType::new(p.scale.dtype, data.shape.clone());
    Ok(vec![mask.into(), values.into()])
}
