//! `constexpr_sparse_blockwise_shift_scale`

use crate::DType::{Fp16, Fp32, Int4, Int8, UInt1, UInt4, UInt8};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Opset, TensorType};

op! {
    /// Quantized weights of which only those in a mask are stored; the results are a mask and values.
    ///
    /// `nonzero_data` has an element for each 1 of `data_mask`, in row-major order; they are scaled and shifted as in
    /// `constexpr_blockwise_shift_scale`, at their place in the mask. The first result is the mask.
    ConstexprSparseBlockwiseShiftScale,
    &[Version {
        opset: Opset::Ios18,
        params: &[
            required("data_mask", Kind::Of(&[UInt1])).constant(),
            required("nonzero_data", Kind::Var("SrcT")).constant(),
            required("scale", Kind::Var("DstT")).constant(),
            optional("offset", Kind::Var("OffsetT"), Default::Absent).constant(),
        ],
        types: &[
            ("SrcT", &[Int4, UInt4, Int8, UInt8, Fp16, Fp32]),
            ("DstT", &[Fp16, Fp32]),
            ("OffsetT", &[Int4, UInt4, Int8, UInt8, Fp16, Fp32]),
        ],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (mask, data) = (op.tensor("data_mask")?, op.tensor("nonzero_data")?);
    require!(data.rank() == 1, "input `nonzero_data` must be a vector, not {data}");
    let dense = TensorType::new(data.dtype, mask.shape.clone());
    super::constexpr_blockwise_shift_scale::check_blocks(op, &dense)?;
    let values = TensorType::new(op.tensor("scale")?.dtype, data.shape.clone());
    Ok(vec![mask.clone().into(), values.into()])
}
