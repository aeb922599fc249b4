//! `constexpr_blockwise_shift_scale`

use crate::DType::{Fp16, Fp32, Int4, Int8, UInt4, UInt8};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};
use crate::{Opset, TensorType};

op! {
    /// Weights quantized in blocks: `scale` · (`data` - `offset`).
    ///
    /// `scale` and `offset` (0 if absent) have the rank of `data`, and each of their sizes divides that of `data`:
    /// every element of theirs covers a block. The result has the type of `scale`.
    ConstexprBlockwiseShiftScale,
    &[Version {
        opset: Opset::Ios18,
        params: &[
            required("data", Kind::Var("SrcT")).constant(),
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
    let data = op.tensor("data")?;
    check_blocks(op, data)?;
    Ok(vec![TensorType::new(op.tensor("scale")?.dtype, data.shape.clone()).into()])
}

/// Checks that `scale` and `offset` divide data of the type `data` into blocks.
pub(super) fn check_blocks(op: &OpView<'_>, data: &TensorType) -> Result<(), InferError> {
    let scale = op.tensor("scale")?;
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
    if op.has("offset") {
        let offset = op.tensor("offset")?;
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
