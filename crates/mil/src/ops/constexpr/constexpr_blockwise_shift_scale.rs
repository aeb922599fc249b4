//! `constexpr_blockwise_shift_scale`

use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred, Operand};

op! {
    /// Weights quantized in blocks: `scale` · (`data` - `offset`).
    ///
    /// `scale` and `offset` (0 if absent) have the rank of `data`, and each of their sizes divides that of `data`:
    /// every element of theirs covers a block. The result has the type of `scale`.
    ConstexprBlockwiseShiftScale since Ios18 {
        data: Const<SrcT>,
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
    let data = p.data;
    check_blocks(&data, p.scale, p.offset)?;
    Ok(vec![TensorType::new(p.scale.dtype, data.shape.clone()).into()])
}

/// Checks that `scale` and `offset` divide data of the type `data` into blocks.
pub(super) fn check_blocks(
    data: &TensorType,
    scale: Operand<'_>,
    offset: Option<Operand<'_>>,
) -> Result<(), InferError> {
    require!(data.rank() >= 1, "the data is a scalar; it must have at least rank 1");
    require!(
        scale.rank() == data.rank(),
        "input `scale` has rank {}, the data has {}",
        scale.rank(),
        data.rank()
    );
    for (d, (n, blocks)) in data.shape.iter().zip(&scale.shape).enumerate() {
        if let (Some(n), Some(blocks)) = (n.fixed(), blocks.fixed()) {
            let fits = n.checked_rem(blocks) == Some(0);
            require!(
                fits,
                "input `scale` is {blocks} in dimension {d}, which does not divide the data's {n}"
            );
        }
    }
    if let Some(offset) = offset {
        let same = TensorType::new(offset.dtype, scale.shape.clone());
        require!(offset.agrees(&same), "input `offset` is {offset}; it needs the shape of `scale`, {scale}");
        require!(
            offset.dtype.is_float() || offset.dtype == data.dtype,
            "input `offset` is {}, the data is {}",
            offset.dtype,
            data.dtype
        );
    }
    Ok(())
}
