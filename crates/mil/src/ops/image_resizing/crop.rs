//! `crop`

use crate::DType::{Fp16, Fp32};
use crate::op;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};
use crate::{Dim, Opset};

op! {
    /// Cuts rows and columns off the last two dimensions of `x`.
    ///
    /// `crop_height` and `crop_width` have two elements: how much to cut before and after.
    Crop,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            required("x", Kind::T),
            required("crop_height", Kind::INT32).constant(),
            required("crop_width", Kind::INT32).constant(),
        ],
        types: &[("T", &[Fp16, Fp32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    require!(x.rank() >= 3, "input `x` must have at least rank 3, not {}", x.rank());
    let n = x.rank();
    let height = left(x.shape[n - 2], edges(op, "crop_height")?)?;
    let width = left(x.shape[n - 1], edges(op, "crop_width")?)?;
    Ok(vec![super::sampling::resized(x, height, width)?.into()])
}

/// How much to cut before and after.
///
/// # Errors
/// There are not two elements, or one is negative.
pub fn edges(op: &OpView<'_>, name: &str) -> Result<[usize; 2], InferError> {
    match *op.ints(name)? {
        [before, after] if before >= 0 && after >= 0 => Ok([before as usize, after as usize]),
        ref other => Err(InferError(format!("input `{name}` takes 2 sizes, not {other:?}"))),
    }
}

fn left(d: Dim, [before, after]: [usize; 2]) -> Result<Dim, InferError> {
    let Dim::Fixed(n) = d else { return Ok(d) };
    let left = n.checked_sub(before).and_then(|n| n.checked_sub(after));
    left.map(Dim::Fixed)
        .ok_or_else(|| InferError(format!("cannot cut {before} and {after} from a size of {n}")))
}
