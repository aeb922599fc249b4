//! `band_part`

use crate::DType::{Bool, Fp16, Fp32, Int32};
use crate::Opset;
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// Keeps a diagonal band of each innermost matrix of `x`, and makes the rest zero.
    ///
    /// The element in row m, column n is kept if m - n is at most `lower` and n - m is at most `upper`; a negative
    /// bound keeps that whole triangle.
    BandPart,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("x", Kind::T),
            optional("lower", Kind::INT32, Default::Int(-1)).constant(),
            optional("upper", Kind::INT32, Default::Int(-1)).constant(),
        ],
        types: &[("T", &[Fp16, Fp32, Int32, Bool])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    require!(x.rank() >= 2, "input `x` must have at least rank 2, not {}", x.rank());
    op.int("lower")?;
    op.int("upper")?;
    Ok(vec![x.clone().into()])
}
