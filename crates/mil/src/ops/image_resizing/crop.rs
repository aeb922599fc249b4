//! `crop`

use crate::Dim;
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Cuts rows and columns off the last two dimensions of `x`.
    ///
    /// `crop_height` and `crop_width` have two elements: how much to cut before and after.
    Crop since Ios13 {
        x: Operand<T>,
        crop_height: Ints,
        crop_width: Ints,
    }
    where T: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    require!(x.rank() >= 3, "input `x` must have at least rank 3, not {}", x.rank());
    let n = x.rank();
    let height = left(x.shape[n - 2], edges("crop_height", &p.crop_height)?)?;
    let width = left(x.shape[n - 1], edges("crop_width", &p.crop_width)?)?;
    Ok(vec![super::sampling::resized(&x, height, width)?.into()])
}

/// Returns how many elements to cut before and after.
///
/// # Errors
/// There are not two elements, or one is negative.
pub fn edges(name: &str, sizes: &[i64]) -> Result<[usize; 2], InferError> {
    match *sizes {
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
